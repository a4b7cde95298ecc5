"""A child process that ends with this process, and that only this process controls."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("child.py")
_TAIL_BYTES = 2000
_TAIL_LINES = 8

_children: set[ChildProcess] = set()


class ChildProcess:
    """The running child program; it ends when its standard input is closed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._owner = os.getpid()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open while the child runs
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
        )
        _children.add(self)
        atexit.register(self.stop)
        self._send(settings)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs and is a child of this process."""
        return os.getpid() == self._owner and self._process.poll() is None

    def report(self) -> dict[str, str]:
        """Wait for the child's report, which is the server's ``url`` or an ``error``."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": self._exit_reason()}

    def kill(self) -> None:
        """End the process at once; does nothing in another process, such as after a fork."""
        if os.getpid() == self._owner:
            self._process.kill()

    def stop(self) -> None:
        """End the process and free its resources; calling it again is harmless."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        _children.discard(self)
        self._process.kill()
        self._process.wait()
        self._close()

    def log_tail(self) -> list[str]:
        """The last lines of the log.

        Call this only when the process has ended, because both share one file offset.
        """
        self._process.wait()
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        return self._log.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]

    def disown(self) -> None:
        """In a forked process, close the pipe to the parent's child, so that the child can end."""
        self._close()
        self._process.poll()  # it is not a child of this process, so it is marked as ended

    def _send(self, settings: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        except BrokenPipeError:
            return  # the child has already ended; `report` says why

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    def _exit_reason(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"


def _disown_all() -> None:
    for child in _children:
        child.disown()
    _children.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
