"""Mock servers that count their own usage, and what OpenTelemetry received."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import Engine, EngineConfig, Usage
from llmengine.mock import Behaviour, MockServer, Script
from llmengine.telemetry import meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine.telemetry import Totals


@dataclass
class CountedServer:
    """One mock server, an engine for it, and the usage that the server has counted."""

    engine: Engine
    server: MockServer
    usages: list[Usage] = field(default_factory=list)

    @property
    def generated(self) -> Usage:
        """The usage of all that the server generated, whether or not it arrived."""
        return sum(self.usages, Usage())

    @property
    def totals(self) -> Totals:
        """What the meter has for the engine."""
        return next(t for who, t in meter.snapshot().engines.items() if who[0] == self.engine.name)


def _usage(body: Any) -> Usage:
    usage = body["usage"]
    return Usage(
        usage["prompt_tokens"],
        usage["completion_tokens"],
        usage["total_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


@pytest.fixture
def counted_server(request: Any) -> Iterator[Callable[..., CountedServer]]:
    """Starts a mock server with ``replies`` and ``faults``, and makes its engine."""
    with ExitStack() as servers:

        def start(
            replies: Any = (), faults: Any = (), usage: Any = None, **config: Any
        ) -> CountedServer:
            usages: list[Usage] = []

            def reply(body: Any, _: Any) -> Any:
                body["usage"].update(usage or {})
                usages.append(_usage(body))
                return body

            def events(chunks: Any, _: Any) -> Any:
                usages.extend(_usage(chunk) for chunk in chunks if chunk.get("usage"))
                return chunks

            # The mock has no images, and a server with images is wanted here.
            images = frozenset({"chat.not_played"})
            behaviour = Behaviour(reply=reply, events=events, without_rules=images)
            script = Script(replies=replies, faults=faults)
            server = servers.enter_context(MockServer(behaviour=behaviour, script=script))
            fields = {
                "backend": "openai_compatible",
                "model": "mock",
                "endpoint": server.root_url,
                "name": request.node.nodeid,
                "structured": "json_schema",
            }
            return CountedServer(EngineConfig(**(fields | config)).engine, server, usages)

        yield start


class Exported:
    """The spans and metrics that OpenTelemetry's SDK received.

    Its providers are set once per process.
    """

    def __init__(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk")
        assert sdk
        from opentelemetry import metrics, trace  # noqa: PLC0415 - may be missing
        from opentelemetry.sdk.metrics import Histogram, MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
            AggregationTemporality,
            InMemoryMetricReader,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
            InMemorySpanExporter,
        )

        self._spans = InMemorySpanExporter()
        delta = {Histogram: AggregationTemporality.DELTA}
        self._metrics = InMemoryMetricReader(preferred_temporality=delta)
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(MeterProvider([self._metrics]))
        self.tracer = tracers.get_tracer("the caller")

    def forget(self) -> None:
        """Drop what earlier tests have sent."""
        self._spans.clear()
        self._metrics.get_metrics_data()

    @property
    def spans(self) -> list[Any]:
        """The spans that have ended."""
        return list(self._spans.get_finished_spans())

    @property
    def span(self) -> Any:
        """The only span."""
        (only,) = self.spans
        return only

    @property
    def points(self) -> dict[str, list[Any]]:
        """The data points of each metric since the last call."""
        data = self._metrics.get_metrics_data()
        if data is None:
            return {}
        scopes = [s for r in data.resource_metrics for s in r.scope_metrics]
        return {m.name: list(m.data.data_points) for s in scopes for m in s.metrics}


@pytest.fixture(scope="session")
def providers() -> Exported:
    """OpenTelemetry, set up for the rest of the process."""
    return Exported()


@pytest.fixture
def exported(providers: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """What OpenTelemetry received in this test; contents are not captured."""
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)
    providers.forget()
    return providers
