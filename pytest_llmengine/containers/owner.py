"""Which process the containers of a run belong to, and whether it is still there."""

from __future__ import annotations

import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_llmengine.containers import labels

if TYPE_CHECKING:
    from collections.abc import Mapping

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
