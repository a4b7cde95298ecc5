"""Spans by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

from llmengine import CallError, EngineConfig, SamplingParams, run_batch
from llmengine.mock import Fault

SAMPLING = SamplingParams(
    temperature=0.5,
    top_p=0.9,
    max_tokens=7,
    seed=3,
    stop=["END"],
    frequency_penalty=0.1,
    presence_penalty=0.2,
    n=2,
)


class City(BaseModel):
    """An output model."""

    name: str


def names(span: Any) -> list[str]:
    """The names of a span's events."""
    return [event.name for event in span.events]


def test_a_call_is_one_span(counted_server: Any, exported: Any) -> None:
    """Request, response and usage have the names of the conventions."""
    s = counted_server(price={"input": 1_000_000, "output": 1_000_000})

    (result,) = s.engine.results("a", SAMPLING)

    span, output = exported.span, result.unwrap()
    assert (span.name, span.kind.name) == ("chat mock", "CLIENT")
    where = urlsplit(s.server.root_url)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai_compatible",
        "gen_ai.request.model": "mock",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.2,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.id": output.request_id,
        "gen_ai.response.model": "mock",
        "gen_ai.response.finish_reasons": tuple(o.finish_reason for o in output.outputs),
        "gen_ai.usage.input_tokens": s.generated.prompt_tokens,
        "gen_ai.usage.output_tokens": s.generated.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": s.generated.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": s.generated.reasoning_tokens,
        "server.address": where.hostname,
        "server.port": where.port,
        "llmengine.engine": s.engine.name,
        "llmengine.attempts": 1,
        "llmengine.cost": s.generated.total_tokens,
        "llmengine.currency": "USD",
    }
    assert span.status.status_code.name == "UNSET"


def test_attempts_are_events(counted_server: Any, exported: Any) -> None:
    """A retried call is one span with each attempt and its failure."""
    s = counted_server(faults=[Fault(status=503)])

    s.engine.results("a")

    span = exported.span
    assert names(span) == ["attempt", "attempt failed", "attempt"]
    assert dict(span.events[1].attributes) == {
        "llmengine.attempt": 1,
        "error.type": "InternalServerError",
        "http.response.status_code": 503,
    }
    assert span.attributes["llmengine.attempts"] == 2
    assert "error.type" not in span.attributes


def test_failures_are_errors(counted_server: Any, exported: Any) -> None:
    """A call that failed for good is an error of its kind."""
    s = counted_server(faults=[Fault(status=500)], max_retries=0)

    s.engine.results("a")

    span = exported.span
    assert span.status.status_code.name == "ERROR"
    assert span.status.description == "InternalServerError (HTTP 500)"
    assert span.attributes["error.type"] == "InternalServerError"
    assert span.attributes["http.response.status_code"] == 500


def test_repairs_and_the_schema_are_attributes(counted_server: Any, exported: Any) -> None:
    """The span of a structured call has them, and the usage of all repairs."""
    s = counted_server(replies=["no json", '{"name": "Oslo"}'])

    s.engine.results("a city", output_model=City)

    attributes = exported.span.attributes
    assert attributes["gen_ai.output.type"] == "json"
    assert attributes["gen_ai.usage.output_tokens"] == s.generated.completion_tokens
    assert attributes["llmengine.attempts"] == 2
    assert "llmengine.schema_strategy" in attributes


def test_unknown_is_left_out(counted_server: Any, exported: Any) -> None:
    """A lost answer has no usage instead of 0, and so has an unknown cost."""
    s = counted_server(faults=[Fault(cut_after=0)], max_retries=0, price={"input": 1, "output": 1})

    s.engine.results("a")

    attributes = exported.span.attributes
    assert attributes["llmengine.uncounted_attempts"] == 1
    assert not {"gen_ai.usage.input_tokens", "llmengine.cost"} & set(attributes)


def test_the_callers_span_is_the_parent(counted_server: Any, exported: Any) -> None:
    """Sync calls, async calls and streams are children of the current span."""
    engine = counted_server().engine

    async def asynchronous() -> None:
        await engine.agenerate(["b", "c"])
        [delta async for delta in engine.astream("d")]

    with exported.tracer.start_as_current_span("mine") as mine:
        engine.generate("a")
        list(engine.stream("e"))
        list(engine.iter_results(["f"]))
        asyncio.run(asynchronous())

    chats = [span for span in exported.spans if span.name == "chat mock"]
    assert len(chats) == 6
    assert {span.parent.span_id for span in chats} == {mine.get_span_context().span_id}


def test_calls_after_each_other_are_siblings(counted_server: Any, exported: Any) -> None:
    """The span of one prompt is never the parent of the next one's."""
    counted_server(max_concurrency=1).engine.generate(["a", "b", "c"])

    assert [span.parent for span in exported.spans] == [None] * 3


def test_a_stream_ends_its_span(raw_server: Any, chunk: Any, exported: Any) -> None:
    """The span of a stream lasts until its end and has the time of the first content."""
    content_is_read = threading.Event()
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Hello"))
        assert content_is_read.wait(30)
        connection.sse(chunk(finish="stop") | usage, ...)
        connection.chunk(b"")

    config = EngineConfig(
        backend="openai_compatible", model="m", endpoint=raw_server(handler).url, name="streamed"
    )
    started = time.monotonic()
    stream = config.engine.stream("a")
    next(delta for delta in stream if delta.has_content)
    longest = time.monotonic() - started
    assert exported.spans == []
    content_is_read.set()
    list(stream)

    span = exported.span
    assert span.attributes["gen_ai.request.stream"] is True
    assert 0 < span.attributes["gen_ai.response.time_to_first_chunk"] <= longest
    assert span.attributes["gen_ai.usage.output_tokens"] == 2


def test_a_stream_that_breaks_is_an_error(counted_server: Any, exported: Any) -> None:
    """A stream without its end fails the span."""
    s = counted_server(faults=[Fault(cut_after=3)], max_retries=0)

    with pytest.raises(CallError) as caught:
        list(s.engine.stream("a"))

    assert exported.span.attributes["error.type"] == type(caught.value).__name__
    assert exported.span.status.status_code.name == "ERROR"


def test_stream_that_is_left_is_not_an_error(counted_server: Any, exported: Any) -> None:
    """A reader who stops early ends the span, which says so."""
    s = counted_server(faults=[Fault(chunk_delay=0.05)])

    stream = s.engine.stream("a")
    next(stream)
    stream.close()
    s.engine.generate("b")  # runs on the same loop, after the cancellation

    left, _ = exported.spans
    assert names(left) == ["attempt", "cancelled"]
    assert left.status.status_code.name == "UNSET"
    assert "error.type" not in left.attributes


def test_a_line_of_a_batch_is_a_span(
    counted_server: Any, exported: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """A chat line has the span of a call, with prompt and answer if configured."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    s = counted_server(replies=["Fine."])
    body = {"messages": [{"role": "user", "content": "How?"}], "seed": 3, "max_tokens": 50}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}

    with exported.tracer.start_as_current_span("the batch") as parent:
        run_batch([line], tmp_path / "out.jsonl", s.engine)

    (span,) = [x for x in exported.spans if x.name == "chat mock"]
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.attributes["gen_ai.request.seed"] == 3
    assert span.attributes["gen_ai.usage.output_tokens"] == s.generated.completion_tokens
    assert "How?" in span.attributes["gen_ai.input.messages"]
    assert "Fine." in span.attributes["gen_ai.output.messages"]


def test_a_line_that_is_wrong_is_still_a_span(
    counted_server: Any, exported: Any, tmp_path: Any
) -> None:
    """The server's refusal ends the span, without an error of the library."""
    s = counted_server()
    bodies = [{"messages": "none"}, {"messages": [{"role": "user"}], "temperature": "hot"}]
    lines = [
        {"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for place, body in enumerate(bodies)
    ]

    report = run_batch(lines, tmp_path / "out.jsonl", s.engine)

    assert report.progress.failed == 2
    assert [x.attributes["error.type"] for x in exported.spans] == ["BadRequestError"] * 2


def test_lines_of_other_routes_have_no_span(
    counted_server: Any, exported: Any, tmp_path: Any
) -> None:
    """Completions are answered without one."""
    s = counted_server()
    body = {"model": "mock", "prompt": "a", "max_tokens": 4}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}

    report = run_batch([line], tmp_path / "out.jsonl", s.engine)

    assert (report.progress.failed, exported.spans) == (0, [])
