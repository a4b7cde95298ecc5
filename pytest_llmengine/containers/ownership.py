"""The folder by which the processes of a run tell each other what they started.

Which process the containers of a run belong to, and whether it is still there.

Takes containers away: those of a run at its end, and those that a dead run left behind.
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
    """Where a run's folder is, whether it has been made or not."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{owner.run}"


def made_folder(owner: Owner) -> Path:
    """The run's folder, with its owner in it, so that the next run knows one that was left."""
    folder = folder_of(owner)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / _OWNER).write_text(json.dumps(asdict(owner)), "utf-8")
    return folder


def remove_left_folders() -> None:
    """Delete the folders of runs that were killed, or that a restart of the machine ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = _owner_in(folder)
        if owner is not None and owner.has_our_name and not (owner.is_here and owner.is_alive):
            shutil.rmtree(folder, ignore_errors=True)  # another run may be deleting it too


def _owner_in(folder: Path) -> Owner | None:
    """Who left a folder; None where it is another user's, or is being made or deleted."""
    try:
        return Owner(**json.loads((folder / _OWNER).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


_PROC = Path("/proc")
_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat after the command's name, see proc(5)


@dataclass(frozen=True, slots=True)
class Owner:
    """One run and its main process.

    ``boot`` tells apart two starts of the same machine, and two process namespaces on it.
    ``started`` is the process's start in clock ticks since that boot: process ids are used again.
    Both are empty where the system does not tell (anything but Linux).
    """

    run: str
    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Self:
        """A new run of this process."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, platform.node(), _boot(), pid, _started(pid) or "")

    @classmethod
    def from_labels(cls, given: Mapping[str, str]) -> Self | None:
        """The owner that a container's labels name, or None where they name none."""
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
        """Whether the run is this process's own; a worker's belongs to its controller."""
        return self.pid == os.getpid() and self.is_here

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine and of its present start."""
        return self.has_our_name and self.boot == _boot()

    @property
    def has_our_name(self) -> bool:
        """Whether its machine is called as this one, which others may be too."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; only asked of one that is here."""
        if (_PROC / "self" / "stat").exists():
            return _started(self.pid) == self.started
        return _answers(self.pid)


def _boot() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started; None if there is none, or nothing but its exit status is left."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command's name comes before, in parentheses, and may itself hold any character.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in "ZX" else fields[_START_TIME]


def _answers(pid: int) -> bool:
    if os.name == "nt":
        return True  # a signal would end it there; better to leave its container
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# Another process of ours removed it, or is removing it now.
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


def remove(container: Container) -> None:
    """Stop a container at once and delete it; one that is being deleted already is no error."""
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def ours(docker: DockerClient, given: Mapping[str, str]) -> list[Container]:
    """Every container that bears these labels, stopped ones included."""
    wanted = [f"{name}={value}" if value else name for name, value in given.items()]
    return docker.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def end_run(owner: Owner) -> None:
    """Remove what a run has started; it costs nothing where the run started nothing."""
    folder = folder_of(owner)
    if not folder.exists():
        return
    with docker_engine() as docker:
        for container in ours(docker, {labels.RUN: owner.run}):
            remove(container)
    shutil.rmtree(folder)


def sweep(docker: DockerClient) -> None:
    """Remove what runs have left behind that were killed."""
    for container in ours(docker, {labels.RUN: ""}):
        owner = Owner.from_labels(container.labels)
        if owner is not None and _is_abandoned(container, owner):
            remove(container)
    remove_left_folders()


def _is_abandoned(container: Container, owner: Owner) -> bool:
    """Whether nobody can be using it any more; where that cannot be known it is left alone.

    After a restart of the machine its containers stand still. One of the same host name that runs
    though its owner was of another start is that of a machine, or of a container, with our name.
    """
    if owner.is_here:
        return not owner.is_alive
    return owner.has_our_name and container.status == "exited"
