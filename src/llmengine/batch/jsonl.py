"""Files of JSON lines that grow by appending, survive a killed process, and have one writer."""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from pathlib import Path


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # checked before use


SYNC_SECONDS = 1.0
_LOCKED = frozenset({errno.EACCES, errno.EAGAIN})
_BLOCK = 2**16


@contextmanager
def sole_writer(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``<path>.lock``; raises ConfigError if another run holds it for `patience` seconds.

    The lock is beside the file that `path` resolves to, so that links to one file share one lock.
    The operating system releases it when the process ends, however it ends. The empty lock file
    stays: if it were removed, a third run could lock a new file while the second run still holds
    the old one.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # symbolic links in a circle
        raise ConfigError(f"{path}: {error}; give another output") from None
    lock = FileLock(f"{real}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise _in_use(path) from None
    try:
        with _locked_file(real, path):
            yield
    finally:
        lock.release()


@contextmanager
def _locked_file(real: Path, path: Path) -> Iterator[None]:
    """Lock the file itself too, since another run may have opened it by a hard link."""
    if fcntl is None:
        if real.exists() and real.stat().st_nlink > 1:
            raise ConfigError(
                f"{path}: has more than one name (hard links), and this system cannot tell "
                "whether another run is writing to it; give an output with one name"
            )
        yield
        return
    try:
        descriptor = os.open(real, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:  # before 3.13, `resolve` reports it
            raise ConfigError(f"{path}: {error.strerror}; give another output") from None
        raise
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _LOCKED:
                raise _in_use(path) from None
            # Some network file systems do not have such locks. Then the lock file must be enough.
        yield
    finally:
        os.close(descriptor)


def _in_use(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: another run is writing to it; wait until it ends, or give another output"
    )


def repair(path: Path, start: bytes) -> bool:
    """Remove a last line that a killed process did not finish; a complete one gets its newline.

    ``start`` is how every line begins. Returns False, and leaves the file as it is, if the last
    line is incomplete and does not begin so.
    """
    with path.open("r+b") as file:
        last_line = _start_of_last_line(file)
        file.seek(last_line)
        tail = file.read()
        if json_object(tail) is not None:
            file.write(b"\n")
        elif tail.startswith(start) or start.startswith(tail):
            file.truncate(last_line)
        else:
            return False
    return True


def _start_of_last_line(file: BufferedRandom) -> int:
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def json_object(raw: bytes) -> dict[str, object] | None:
    """The JSON object in a line; None if there is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class JSONLinesFile:
    """A file that lines are appended to.

    A line has been passed to the operating system before `append` returns, so a killed process
    loses no lines. It is synced to the disk within a second, so a power cut loses at most the
    lines of one second.
    """

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        self._path = path
        self._synced_at = time.monotonic()
        self._dirty = False
        empty = 0 if keep else os.O_TRUNC
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | empty, 0o666)

    def append(self, line: bytes) -> None:
        """Append a line, which ends in a newline."""
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            error.filename = str(self._path)
            raise
        self._dirty = True
        self.sync_if_due()

    def sync_if_due(self) -> None:
        """Sync appended lines to the disk, unless that was done within the last second."""
        if self._dirty and time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Sync the file to the disk."""
        os.fsync(self._fd)
        self._synced_at = time.monotonic()
        self._dirty = False

    def close(self) -> None:
        """Close the file, without a sync."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.sync()
        finally:
            self.close()
