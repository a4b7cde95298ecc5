"""One run an output: two would ask everything twice and mix their lines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from llmengine.values.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def sole_writer(output: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``<output>.lock``; raises ConfigError if another run holds it for `patience` seconds.

    The system frees it with its process, however that ends. The empty file stays: removing it
    would let a third run lock a new one while the second still holds the old.
    """
    lock = FileLock(f"{output}.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise ConfigError(
            f"{output}: another run is writing to it; wait for its end, or give another output"
        ) from None
    try:
        yield
    finally:
        lock.release()
