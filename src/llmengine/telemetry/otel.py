"""OpenTelemetry spans and metrics of chat calls, by the semantic conventions for generative AI.

Conventions: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ (names as of 1.41).
Format of prompts and answers in spans:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-input-messages.json.

This module is imported only if OpenTelemetry is installed and in use; see
`llmengine.engine.call.tracing_of`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry import context, metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from llmengine.telemetry.harmless import harmless
from llmengine.types.errors import CallError
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AnyValue

    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import CompletionOutput, LLMOutput, Usage
    from llmengine.types.request import ChatRequest
    from llmengine.types.wire import JSONObject

    Attributes = dict[str, AnyValue]
    from llmengine.types.results import Result


SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON = {"true", "span_only", "span_and_event"}
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}
_NAME = "llmengine"
_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
# The bucket boundaries of the histograms, as the conventions recommend: seconds, seconds, tokens.
_SECONDS = [0.01 * 2**n for n in range(14)]
_FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10]
_TOKENS = [4**n for n in range(14)]
# The names of these servers in the conventions, else in the tools that read the traces.
_PROVIDERS = {
    "embedded": "llama.cpp",
    "ollama_api": "ollama",
    "vllm_api": "vllm",
    "vllm_local": "vllm",
}
# The providers in these modules of the API record nothing.
_NO_OP_MODULES = ("opentelemetry.trace", "opentelemetry.metrics")


@harmless
def tracing(engine: str, model: str, backend: str, url: str) -> Tracing | None:
    """The Tracing of an engine; None if nothing would be recorded."""
    providers = trace.get_tracer_provider(), metrics.get_meter_provider()
    if all(type(p).__module__.startswith(_NO_OP_MODULES) for p in providers):
        return None
    return Tracing(engine, model, backend, url, _instruments(*providers))


@lru_cache(maxsize=1)  # a provider is set once per process, and warns of duplicates
def _instruments(tracers: trace.TracerProvider, meters: metrics.MeterProvider) -> Instruments:
    return Instruments(tracers, meters)


class Tracing:
    """Makes the spans of one engine at one server address."""

    def __init__(
        self, engine: str, model: str, backend: str, url: str, instruments: Instruments
    ) -> None:
        self._instruments = instruments
        self._common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _PROVIDERS.get(backend, backend),
            "gen_ai.request.model": model,
            **_server(url),
        }
        self._engine = engine

    @harmless
    def span(self, request: ChatRequest) -> ChatSpan:
        """A span that starts now, as a child of the caller's current span."""
        attributes = {
            **self._common,
            "llmengine.engine": self._engine,
            **request_attributes(request),
        }
        contents = captures_content()
        if contents:
            attributes |= input_messages(request)
        span = self._instruments.tracer.start_span(
            f"chat {request.model}", kind=SpanKind.CLIENT, attributes=attributes
        )
        return ChatSpan(span, self._common, self._instruments, contents=contents)


def _server(url: str) -> Attributes:
    """The attributes of the server's address; none for an engine that runs in this process."""
    parts = urlsplit(url)
    if not parts.hostname:
        return {}
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return {"server.address": parts.hostname, "server.port": port}


class ChatSpan:
    """The span of one prompt, with its attempts as events.

    It is the current span between `enter` and `leave`.
    """

    def __init__(
        self,
        span: trace.Span,
        common: Attributes,
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
        """Make this the current span, so that the spans of an HTTP client become its children."""
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
        """Generated content has arrived; the time of a stream's first content is recorded."""
        if self._first_content is None:
            self._first_content = monotonic() - self._started

    @harmless
    def end(self, result: Result, *, cancelled: bool) -> None:
        """The call is over; a cancelled call is not a failure, and is not measured."""
        seconds = monotonic() - self._started
        span, error = self._span, result.error
        output = result.output or getattr(error, "partial", None)
        span.set_attributes(response_attributes(result, output, self._first_content))
        if self._contents and output is not None:
            span.set_attributes(output_messages(output))
        if cancelled:
            span.add_event("cancelled")
        elif error is not None:
            self._fail(error)
        span.end()
        if not cancelled:
            self._measure(result, seconds)

    def _fail(self, error: LLMEngineError) -> None:
        self._span.set_attributes(failure_of(error))
        # The message may quote the answer, so it is recorded only if answers are.
        text = str(error) if self._contents else getattr(error, "label", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR, text))

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


class Instruments:
    """The tracer and the histograms of one pair of providers, shared by all engines."""

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


def request_attributes(request: ChatRequest) -> Attributes:
    """The span attributes of a request: sampling parameters and output type, never contents."""
    sampling = request.sampling
    attributes: Attributes = {
        f"gen_ai.request.{name}": getattr(sampling, f) for f, name in _SAMPLING.items()
    }
    if sampling.stop:
        stop = sampling.stop
        sequences = [stop] if isinstance(stop, str) else list(stop)
        attributes["gen_ai.request.stop_sequences"] = sequences
    attributes["gen_ai.request.stream"] = request.stream or None
    shaped = request.response_format is not None or request.output_model is not None
    attributes["gen_ai.output.type"] = "json" if shaped else None
    return _given(attributes)


def response_attributes(
    result: Result, output: LLMOutput | None, first_content: float | None
) -> Attributes:
    """The span attributes of a result: details of the answer, and the usage of all attempts."""
    usage = result.usage
    attributes: Attributes = {
        "gen_ai.response.time_to_first_chunk": first_content,
        "llmengine.attempts": result.attempts,
        "llmengine.uncounted_attempts": result.uncounted or None,
        "llmengine.cost": result.cost,
        "llmengine.currency": result.currency,
    }
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if output is not None:
        reasons = [o.finish_reason for o in output.outputs if o.finish_reason]
        attributes["gen_ai.response.id"] = output.request_id or None
        attributes["gen_ai.response.model"] = output.model
        attributes["gen_ai.response.finish_reasons"] = reasons or None
        attributes["llmengine.schema_strategy"] = output.schema_strategy
    return _given(attributes)


def tokens(usage: Usage | None) -> dict[str, int]:
    """The token counts, by the token type of the conventions."""
    if usage is None:
        return {}
    counts = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
    return {kind: count for kind, count in counts.items() if count is not None}


def failure_of(error: Exception) -> Attributes:
    """The kind of a failure, without its message, because the message may quote an answer."""
    attributes: Attributes = {"error.type": type(error).__name__}
    if isinstance(error, CallError):
        attributes["http.response.status_code"] = error.status
        attributes["llmengine.clock"] = error.clock
    return _given(attributes)


def _given(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def captures_content() -> bool:
    """Whether OpenTelemetry's variable allows prompts and answers in spans."""
    return os.environ.get(SWITCH, "").lower() in _ON


def input_messages(request: ChatRequest) -> dict[str, str]:
    """The messages and the tools of a request, in the message format of the conventions.

    For images and other media only the type is recorded, since the data can be megabytes long.
    """
    attributes = {"gen_ai.input.messages": _json([_message(m) for m in request.messages])}
    if request.tools:
        attributes["gen_ai.tool.definitions"] = _json(list(request.tools))
    return attributes


def output_messages(output: LLMOutput) -> dict[str, str]:
    """The answers, in the same format; if an answer is incomplete, the part that arrived."""
    return {"gen_ai.output.messages": _json([_answer(o) for o in output.outputs])}


def _json(value: object) -> str:
    return scrub(json.dumps(value, ensure_ascii=False, default=str))


def _message(message: JSONObject) -> JSONObject:
    role, content = message["role"], message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        return {
            "role": role,
            "parts": [{"type": "tool_call_response", "id": call_id, "response": content}],
        }
    calls = message.get("tool_calls")
    parts = _parts(content) + [_call(call) for call in _list(calls) if isinstance(call, Mapping)]
    return {"role": role, "parts": parts}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _parts(content: object) -> list[JSONObject]:
    return [_text(content)] if isinstance(content, str) else [_part(p) for p in _list(content)]


def _part(part: object) -> JSONObject:
    if not isinstance(part, Mapping):
        return _text(part)
    return _text(part["text"]) if "text" in part else {"type": part.get("type", "unknown")}


def _call(call: JSONObject) -> JSONObject:
    function = call.get("function")
    fields = function if isinstance(function, Mapping) else {}
    return _tool_call(call.get("id"), fields.get("name"), fields.get("arguments"))


def _answer(output: CompletionOutput) -> JSONObject:
    parts: list[JSONObject] = []
    if output.reasoning:
        parts.append({"type": "reasoning", "content": output.reasoning})
    if output.text:
        parts.append(_text(output.text))
    parts += [_tool_call(c.id, c.name, c.arguments) for c in output.tool_calls]
    return {"role": "assistant", "parts": parts, "finish_reason": output.finish_reason}


def _text(content: object) -> JSONObject:
    return {"type": "text", "content": content}


def _tool_call(call_id: object, name: object, arguments: object) -> JSONObject:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}
