"""Live engines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chainette.engine.registry import _REGISTRY, get_engine_config

if TYPE_CHECKING:
    from collections.abc import Iterator


class EngineBroker:
    """Hands engines out by name, and releases them."""

    @staticmethod
    @contextmanager
    def acquire(name: str) -> Iterator[Any]:
        """The live engine of that name."""
        yield get_engine_config(name).engine

    @staticmethod
    def flush(*, force: bool = False) -> None:
        """Release every engine."""
        for config in _REGISTRY.values() if force else ():
            config.release_engine()
