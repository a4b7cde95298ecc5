"""One run per output: two would ask everything twice and mix their lines."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from llmengine.types.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # looked at before it is used

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HELD = frozenset({errno.EACCES, errno.EAGAIN})


@contextmanager
def sole_writer(output: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``<output>.lock``; raises ConfigError if another run holds it for `patience` seconds.

    The lock lies beside the file that `output` leads to, so that links to one file are one lock.
    The system frees it with its process, however that ends. The empty file stays: removing it
    would let a third run lock a new one while the second still holds the old.
    """
    try:
        real = output.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise ConfigError(f"{output}: {error}; give another output") from None
    lock = FileLock(f"{real}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise _taken(output) from None
    try:
        with _only_name(real, output):
            yield
    finally:
        lock.release()


@contextmanager
def _only_name(real: Path, output: Path) -> Iterator[None]:
    """Hold the file itself, which another run may have opened by a second name (a hard link)."""
    if fcntl is None:
        if real.exists() and real.stat().st_nlink > 1:
            raise ConfigError(
                f"{output}: has more than one name (hard links), and this system cannot tell "
                "whether another run is writing to it; give an output with one name"
            )
        yield
        return
    descriptor = os.open(real, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise _taken(output) from None
            # Some network file systems have no such locks; there the lock beside it must do.
        yield
    finally:
        os.close(descriptor)


def _taken(output: Path) -> ConfigError:
    return ConfigError(
        f"{output}: another run is writing to it; wait for its end, or give another output"
    )
