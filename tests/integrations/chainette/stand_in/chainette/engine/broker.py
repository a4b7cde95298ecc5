"""Live engines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chainette.engine.engine_pool import ENGINE_POOL
from chainette.engine.registry import _REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineBroker:
    """Hands engines out by name, and releases them."""

    @staticmethod
    @contextmanager
    def acquire(name: str) -> Iterator[Any]:
        """The live engine of that name."""
        yield ENGINE_POOL.acquire(name)

    @staticmethod
    def flush(*, force: bool = False) -> None:
        """Release every engine."""
        for name, config in _REGISTRY.items() if force else ():
            ENGINE_POOL.pop(name)
            config.release_engine()
