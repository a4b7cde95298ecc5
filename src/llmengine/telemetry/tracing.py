"""Whether traces are wanted, found out without importing OpenTelemetry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.telemetry.otel import Tracing


def tracing_of(engine: str, model: str, backend: str, url: str) -> Tracing | None:
    """The maker of the spans of an engine, given by name; None while no provider is set.

    A program that has set a provider has imported OpenTelemetry. So if the module is not loaded,
    no traces are wanted, and it does not need to be imported here.
    """
    if sys.modules.get("opentelemetry") is None:
        return None
    from llmengine.telemetry.otel import tracing  # noqa: PLC0415 - needs opentelemetry

    return tracing(engine, model, backend, url)
