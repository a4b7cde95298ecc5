"""Spans by OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import BaseModel

from llmengine import CallError, SamplingParams
from llmengine.batch.run import run_batch
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
    """An answer in a shape."""

    name: str


def names(span: Any) -> list[str]:
    """The events of a span."""
    return [event.name for event in span.events]


def test_a_call_is_one_span(shop: Any, told: Any) -> None:
    """Request, response and usage are there under the conventions' names."""
    s = shop(price={"input": 1_000_000, "output": 1_000_000})

    (result,) = s.engine.results("a", SAMPLING)

    span, output = told.span, result.unwrap()
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
        "gen_ai.usage.input_tokens": s.told.prompt_tokens,
        "gen_ai.usage.output_tokens": s.told.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": s.told.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": s.told.reasoning_tokens,
        "server.address": where.hostname,
        "server.port": where.port,
        "llmengine.engine": s.engine.name,
        "llmengine.attempts": 1,
        "llmengine.cost": s.told.total_tokens,
        "llmengine.currency": "USD",
    }
    assert span.status.status_code.name == "UNSET"


def test_attempts_are_events(shop: Any, told: Any) -> None:
    """A retried call is one span that tells each attempt and why it failed."""
    s = shop(faults=[Fault(status=503)])

    s.engine.results("a")

    span = told.span
    assert names(span) == ["attempt", "attempt failed", "attempt"]
    assert dict(span.events[1].attributes) == {
        "llmengine.attempt": 1,
        "error.type": "InternalServerError",
        "http.response.status_code": 503,
    }
    assert span.attributes["llmengine.attempts"] == 2
    assert "error.type" not in span.attributes


def test_failures_are_errors(shop: Any, told: Any) -> None:
    """A call that failed for good is an error of its kind."""
    s = shop(faults=[Fault(status=500)], max_retries=0)

    s.engine.results("a")

    span = told.span
    assert span.status.status_code.name == "ERROR"
    assert span.status.description == "InternalServerError (HTTP 500)"
    assert span.attributes["error.type"] == "InternalServerError"
    assert span.attributes["http.response.status_code"] == 500


def test_repairs_and_the_schema_are_told(shop: Any, told: Any) -> None:
    """A structured call says so, and sums the usage of its repairs."""
    s = shop(replies=["no json", '{"name": "Oslo"}'])

    s.engine.results("a city", output_model=City)

    attributes = told.span.attributes
    assert attributes["gen_ai.output.type"] == "json"
    assert attributes["gen_ai.usage.output_tokens"] == s.told.completion_tokens
    assert attributes["llmengine.attempts"] == 2
    assert "llmengine.schema_strategy" in attributes


def test_unknown_is_left_out(shop: Any, told: Any) -> None:
    """A lost answer has no usage, rather than one of 0, and an unknown cost is not 0 either."""
    s = shop(faults=[Fault(cut_after=0)], max_retries=0, price={"input": 1, "output": 1})

    s.engine.results("a")

    attributes = told.span.attributes
    assert attributes["llmengine.uncounted_attempts"] == 1
    assert not {"gen_ai.usage.input_tokens", "llmengine.cost"} & set(attributes)


def test_the_callers_span_is_the_parent(shop: Any, told: Any) -> None:
    """Sync calls, async calls and streams nest under the span that they are made in."""
    engine = shop().engine

    async def asynchronous() -> None:
        await engine.agenerate(["b", "c"])
        [delta async for delta in engine.astream("d")]

    with told.tracer.start_as_current_span("mine") as mine:
        engine.generate("a")
        list(engine.stream("e"))
        list(engine.iter_results(["f"]))
        asyncio.run(asynchronous())

    chats = [span for span in told.spans if span.name == "chat mock"]
    assert len(chats) == 6
    assert {span.parent.span_id for span in chats} == {mine.get_span_context().span_id}


def test_calls_after_each_other_are_siblings(shop: Any, told: Any) -> None:
    """The span of one prompt is never the parent of the next one's."""
    shop(max_concurrency=1).engine.generate(["a", "b", "c"])

    assert [span.parent for span in told.spans] == [None] * 3


def test_a_stream_ends_its_span(shop: Any, told: Any) -> None:
    """The span of a stream lasts until its end and knows when the first content came."""
    s = shop(faults=[Fault(delay=0.05, chunk_delay=0.02)])

    started = time.monotonic()
    stream = s.engine.stream("a", SamplingParams(max_tokens=8))
    next(delta for delta in stream if delta.has_content)
    first_seen = time.monotonic() - started
    assert told.spans == []
    list(stream)

    span = told.span
    assert span.attributes["gen_ai.request.stream"] is True
    assert 0.05 <= span.attributes["gen_ai.response.time_to_first_chunk"] <= first_seen
    assert span.attributes["gen_ai.usage.output_tokens"] == s.told.completion_tokens


def test_a_stream_that_breaks_is_an_error(shop: Any, told: Any) -> None:
    """A stream without its end fails the span."""
    s = shop(faults=[Fault(cut_after=3)], max_retries=0)

    with pytest.raises(CallError) as caught:
        list(s.engine.stream("a"))

    assert told.span.attributes["error.type"] == type(caught.value).__name__
    assert told.span.status.status_code.name == "ERROR"


def test_a_stream_that_is_left_is_no_error(shop: Any, told: Any) -> None:
    """A reader who stops early ends the span, which says so."""
    s = shop(faults=[Fault(chunk_delay=0.05)])

    stream = s.engine.stream("a")
    next(stream)
    stream.close()
    s.engine.generate("b")  # runs on the same loop, after the cancellation

    left, _ = told.spans
    assert names(left) == ["attempt", "cancelled"]
    assert left.status.status_code.name == "UNSET"
    assert "error.type" not in left.attributes


def test_a_line_of_a_batch_is_a_span(shop: Any, told: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """A chat line is told as a call is, with its prompt and answer where those are wanted."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    s = shop(replies=["Fine."])
    body = {"messages": [{"role": "user", "content": "How?"}], "seed": 3, "max_tokens": 50}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}

    with told.tracer.start_as_current_span("the batch") as parent:
        run_batch([line], tmp_path / "out.jsonl", s.engine)

    (span,) = [x for x in told.spans if x.name == "chat mock"]
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.attributes["gen_ai.request.seed"] == 3
    assert span.attributes["gen_ai.usage.output_tokens"] == s.told.completion_tokens
    assert "How?" in span.attributes["gen_ai.input.messages"]
    assert "Fine." in span.attributes["gen_ai.output.messages"]


def test_a_line_that_is_wrong_is_still_a_span(shop: Any, told: Any, tmp_path: Any) -> None:
    """The server's refusal ends the span, and nothing of ours gets in its way."""
    s = shop()
    bodies = [{"messages": "none"}, {"messages": [{"role": "user"}], "temperature": "hot"}]
    lines = [
        {"custom_id": str(place), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for place, body in enumerate(bodies)
    ]

    report = run_batch(lines, tmp_path / "out.jsonl", s.engine)

    assert report.progress.failed == 2
    assert [x.attributes["error.type"] for x in told.spans] == ["BadRequestError"] * 2


def test_lines_of_other_routes_have_no_span(shop: Any, told: Any, tmp_path: Any) -> None:
    """Completions are asked and answered as ever."""
    s = shop()
    body = {"model": "mock", "prompt": "a", "max_tokens": 4}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": body}

    report = run_batch([line], tmp_path / "out.jsonl", s.engine)

    assert (report.progress.failed, told.spans) == (0, [])
