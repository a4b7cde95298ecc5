"""The tracer and the histograms that all engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_NAME = "llmengine"
_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
# Bucket boundaries that the conventions ask for, in seconds, seconds and tokens.
_SECONDS = [0.01 * 2**n for n in range(14)]
_FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10]
_TOKENS = [4**n for n in range(14)]


class Instruments:
    """What one pair of providers gives us, made once."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self.tracer = tracers.get_tracer(_NAME, schema_url=_SCHEMA)
        meter = meters.get_meter(_NAME, schema_url=_SCHEMA)
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Time of a call with all its attempts.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.first_content = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time from the call to the first generated content of a stream.",
            explicit_bucket_boundaries_advisory=_FIRST,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of a call with all its attempts.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
