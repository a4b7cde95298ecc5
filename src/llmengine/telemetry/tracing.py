"""Whether anybody wants traces, without importing OpenTelemetry for those who do not have it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.telemetry.otel import Tracing


def tracing_of(engine: Engine, url: str) -> Tracing | None:
    """What the spans of an engine are made by; None while no OpenTelemetry provider is set.

    Whoever has set a provider has imported OpenTelemetry, so that one look at the loaded modules
    is enough for everybody else.
    """
    if sys.modules.get("opentelemetry") is None:
        return None
    from llmengine.telemetry.otel import tracing  # noqa: PLC0415 - needs opentelemetry

    return tracing(engine, url)
