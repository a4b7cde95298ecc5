"""Events of engines."""

from __future__ import annotations

from dataclasses import dataclass

published: list[EngineStarted] = []


@dataclass
class EngineStarted:
    """An engine was made."""

    engine_name: str
    backend: str


def publish(event: EngineStarted) -> None:
    """Note an event."""
    published.append(event)
