"""Live engines by name."""

from __future__ import annotations

from typing import Any

from chainette.engine.registry import get_engine_config


class EnginePool:
    """Keeps an engine once it was asked for."""

    def __init__(self) -> None:
        self._live: dict[str, Any] = {}

    def acquire(self, name: str) -> Any:
        """The live engine of that name."""
        if name not in self._live:
            self._live[name] = get_engine_config(name).engine
        return self._live[name]

    def pop(self, name: str) -> None:
        """Forget a live engine."""
        self._live.pop(name, None)


ENGINE_POOL = EnginePool()
