"""The owners of containers, which are runs, and the removal of a run's containers.

The processes of a run share a folder, in which each writes what it has started.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import uuid
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.docker import docker_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container


_PREFIX, _OWNER = "llmengine-run-", "owner.json"


def folder_of(owner: Owner) -> Path:
    """The path of a run's folder, whether the folder exists or not."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{owner.run}"


def make_folder(owner: Owner) -> Path:
    """Make the run's folder; a later run sees from the owner file in it whether it is abandoned."""
    folder = folder_of(owner)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / _OWNER).write_text(json.dumps(asdict(owner)), "utf-8")
    return folder


def _remove_abandoned_folders() -> None:
    """Delete the folders of runs that were killed, or that a restart of the machine ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = _owner_in(folder)
        if owner is not None and owner.is_same_host and not (owner.is_here and owner.is_alive):
            shutil.rmtree(folder, ignore_errors=True)  # another run may be deleting it too


def _owner_in(folder: Path) -> Owner | None:
    """The owner of a folder; None if the folder is another user's, or is being made or deleted."""
    try:
        return Owner(**json.loads((folder / _OWNER).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


_PROC = Path("/proc")
_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat after the command's name, see proc(5)


@dataclass(frozen=True, slots=True)
class Owner:
    """One run and its main process.

    ``boot`` differs between two boots of one machine, and between two process namespaces on it.
    ``started`` is when the process started, in clock ticks since that boot. It is needed because
    the system reuses process ids. Both are empty on systems other than Linux.
    """

    run: str
    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Self:
        """A new run, owned by this process."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, platform.node(), _boot_id(), pid, _start_time(pid) or "")

    @classmethod
    def from_labels(cls, given: Mapping[str, str]) -> Self | None:
        """The owner that a container's labels name, or None if they do not name one."""
        try:
            pid = int(given[labels.PID])
            names = (labels.RUN, labels.HOST, labels.BOOT, labels.STARTED)
            run, host, boot, started = (given[name] for name in names)
        except (KeyError, ValueError):
            return None
        return cls(run, host, boot, pid, started)

    def to_labels(self) -> dict[str, str]:
        """The labels that name this owner."""
        return {
            labels.RUN: self.run,
            labels.HOST: self.host,
            labels.BOOT: self.boot,
            labels.PID: str(self.pid),
            labels.STARTED: self.started,
        }

    @property
    def is_this_process(self) -> bool:
        """Whether this process owns the run; a worker's run is owned by its controller."""
        return self.pid == os.getpid() and self.is_here

    @property
    def is_here(self) -> bool:
        """Whether the process is on this machine and was started after the machine's last boot."""
        return self.is_same_host and self.boot == _boot_id()

    @property
    def is_same_host(self) -> bool:
        """Whether the host name is that of this machine; another machine may have the same name."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; only valid if `is_here` is true."""
        if (_PROC / "self" / "stat").exists():
            return _start_time(self.pid) == self.started
        return _process_exists(self.pid)


def _boot_id() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """When a process started; None if it does not exist, or is dead but not yet reaped."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name comes before the fields, in parentheses, and may contain any character.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else fields[_START_TIME]


def _process_exists(pid: int) -> bool:
    if os.name == "nt":
        return True  # on Windows the signal would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# Docker's statuses if another process has removed the container, or is removing it now.
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


def remove(container: Container) -> None:
    """Stop a container at once and delete it; it may already have been deleted."""
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def containers_with(docker: DockerClient, given: Mapping[str, str]) -> list[Container]:
    """All containers with these labels, including stopped ones."""
    wanted = [f"{name}={value}" if value else name for name, value in given.items()]
    return docker.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def end_run(owner: Owner) -> None:
    """Remove the containers and the folder of a run, if it has started any container."""
    folder = folder_of(owner)
    if not folder.exists():
        return
    with docker_engine() as docker:
        for container in containers_with(docker, {labels.RUN: owner.run}):
            remove(container)
    shutil.rmtree(folder)


def remove_abandoned(docker: DockerClient) -> None:
    """Remove the containers and folders of runs that were killed."""
    for container in containers_with(docker, {labels.RUN: ""}):
        owner = Owner.from_labels(container.labels)
        if owner is not None and _is_abandoned(container, owner):
            remove(container)
    _remove_abandoned_folders()


def _is_abandoned(container: Container, owner: Owner) -> bool:
    """Whether it is certain that no one uses the container any more.

    A restart of the machine stops its containers. So a container whose owner is from another boot
    is abandoned only if it has exited. If it runs, its owner is on another machine, or in another
    container, with the same host name.
    """
    if owner.is_here:
        return not owner.is_alive
    return owner.is_same_host and container.status == "exited"
