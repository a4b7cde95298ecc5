"""OpenTelemetry spans and metrics of chat calls, by the semantic conventions for generative AI.

Conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (names as of 1.41).
Imported only where OpenTelemetry is installed and in use; see `llmengine.telemetry.tracing`.
"""

from __future__ import annotations

from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from llmengine.telemetry.attributes import asked, failure_of, tokens, told
from llmengine.telemetry.contents import answer, conversation, wanted
from llmengine.telemetry.harmless import harmless
from llmengine.telemetry.instruments import Instruments

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.types.errors import CallError, LLMEngineError
    from llmengine.types.outputs import Result
    from llmengine.types.request import ChatRequest

# Names that the conventions, or else their readers, know these servers by.
_PROVIDERS = {
    "embedded": "llama.cpp",
    "ollama_api": "ollama",
    "vllm_api": "vllm",
    "vllm_local": "vllm",
}
# The API's own providers are stand-ins that record nothing.
_STAND_INS = ("opentelemetry.trace", "opentelemetry.metrics")


@harmless
def tracing(engine: Engine, url: str) -> Tracing | None:
    """What the engine's spans are made by; None where nothing would be recorded."""
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    if all(type(p).__module__.startswith(_STAND_INS) for p in providers):
        return None
    return Tracing(engine, url, _instruments(*providers))


@lru_cache(maxsize=1)  # a provider is set once a process, and warns of instruments made twice
def _instruments(tracers: trace.TracerProvider, meters: metrics.MeterProvider) -> Instruments:
    return Instruments(tracers, meters)


class Tracing:
    """Makes the spans of one engine at one address."""

    def __init__(self, engine: Engine, url: str, instruments: Instruments) -> None:
        self._instruments = instruments
        self._common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(engine.backend, engine.backend),
            "gen_ai.request.model": engine.model,
            **_server(url),
        }
        self._engine = engine.name

    @harmless
    def span(self, request: ChatRequest) -> ChatSpan:
        """A span that starts now, as the child of the caller's."""
        attributes = {**self._common, "llmengine.engine": self._engine, **asked(request)}
        contents = wanted()
        if contents:
            attributes |= conversation(request)
        span = self._instruments.tracer.start_span(
            f"chat {request.model}", kind=SpanKind.CLIENT, attributes=attributes
        )
        return ChatSpan(span, self._common, self._instruments, contents=contents)


def _server(url: str) -> dict[str, Any]:
    """Where the server is; an engine in this process has none."""
    parts = urlsplit(url)
    if not parts.hostname:
        return {}
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return {"server.address": parts.hostname, "server.port": port}


class ChatSpan:
    """One prompt's span, with its attempts as events; it is current between enter and leave."""

    def __init__(
        self,
        span: trace.Span,
        common: dict[str, Any],
        instruments: Instruments,
        *,
        contents: bool,
    ) -> None:
        self._span = span
        self._common = common
        self._instruments = instruments
        self._contents = contents
        self._started = monotonic()
        self._first_content: float | None = None

    @harmless
    def enter(self) -> None:
        """Make the span the parent of what an instrumented HTTP client records."""
        self._token = context.attach(trace.set_span_in_context(self._span))

    @harmless
    def leave(self) -> None:
        """Make the caller's span the current one again."""
        context.detach(self._token)

    @harmless
    def attempt(self, number: int) -> None:
        """A request is about to be sent."""
        self._span.add_event("attempt", {"llmengine.attempt": number})

    @harmless
    def attempt_failed(self, number: int, error: CallError) -> None:
        """A request failed."""
        attributes = {"llmengine.attempt": number, **failure_of(error)}
        self._span.add_event("attempt failed", attributes)

    @harmless
    def content(self) -> None:
        """Generated content has arrived; of a stream, the first is timed."""
        if self._first_content is None:
            self._first_content = monotonic() - self._started

    @harmless
    def end(self, result: Result, *, cancelled: bool) -> None:
        """The call is over; one that the caller gave up is no failure, and is not measured."""
        seconds = monotonic() - self._started
        span, error = self._span, result.error
        output = result.output or getattr(error, "partial", None)
        span.set_attributes(told(result, output, self._first_content))
        if self._contents and output is not None:
            span.set_attributes(answer(output))
        if cancelled:
            span.add_event("cancelled")
        elif error is not None:
            self._fail(error)
        span.end()
        if not cancelled:
            self._measure(result, seconds)

    def _fail(self, error: LLMEngineError) -> None:
        self._span.set_attributes(failure_of(error))
        # The message may quote the answer, so it goes where answers go.
        words = str(error) if self._contents else getattr(error, "label", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR, words))

    def _measure(self, result: Result, seconds: float) -> None:
        common = dict(self._common)
        if result.output is not None and result.output.model is not None:
            common["gen_ai.response.model"] = result.output.model
        for kind, count in tokens(result.usage).items():
            self._instruments.tokens.record(count, {**common, "gen_ai.token.type": kind})
        if self._first_content is not None:
            self._instruments.first_content.record(self._first_content, common)
        if result.error is not None:
            common["error.type"] = type(result.error).__name__
        self._instruments.duration.record(seconds, common)
