"""An answer with status 200 that is empty or cut is retried like a 5xx, counted and logged."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
from collections import Counter
from typing import Any

import pytest

from llmengine import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    CallError,
    EngineConfig,
    InternalServerError,
    QuotaError,
    RateLimitError,
    StreamIncompleteError,
    UnexpectedResponseError,
    run_batch,
)

SENDERS: dict[str, dict[str, Any]] = {
    "asyncio": {"transport": "asyncio"},
    "httpx": {"transport": "httpx"},
    "openai": {"backend": "openai", "options": {"api": "chat"}},
}


@pytest.fixture(params=SENDERS)
def sent(request: pytest.FixtureRequest, engine_for: Any) -> Any:
    """Makes an engine with short waits and its server, once for each way of sending."""
    fields = {"retry_wait": 0.001} | SENDERS[request.param]
    return lambda handler, **config: engine_for(handler, **(fields | config))


def first(times: int, fail: Any, answer: Any) -> Any:
    """A handler that fails the given number of times and then answers."""
    count = itertools.count()

    def handler(request: Any, connection: Any) -> None:
        (fail if next(count) < times else answer)(request, connection)

    return handler


def whole(text: str, chat: Any, chunk: Any) -> Any:
    """Answers, as a stream if the request asks for one."""

    def handler(request: Any, connection: Any) -> None:
        if request.json.get("stream"):
            connection.start_sse()
            connection.sse(chunk(text), chunk(finish="stop"), ...)
            connection.chunk(b"")
        else:
            connection.reply(chat(text))

    return handler


def with_body(body: bytes, **headers: str) -> Any:
    """Sends a 200 with that body, of the content type that the request expects."""

    def handler(request: Any, connection: Any) -> None:
        streamed = request.json.get("stream")
        kind = "text/event-stream" if streamed else "application/json"
        connection.reply(body, headers={"Content-Type": kind} | headers)

    return handler


def shorter_than_declared(_: Any, connection: Any) -> None:
    """Sends less than its Content-Length."""
    connection.head(200, {"Content-Type": "application/json", "Content-Length": "500"})
    connection.send(b'{"id": "half')
    connection.drop()


def closed_early(_: Any, connection: Any) -> None:
    """Sends half an answer without a Content-Length and closes the connection."""
    connection.head(200, {"Content-Type": "application/json", "Connection": "close"})
    connection.send(b'{"id": "half')
    connection.drop()


HALF = b'{"id": "chatcmpl-1", "choices": [{"index": 0, "mess'
CUT = {
    "empty": with_body(b""),
    "blank": with_body(b" \r\n "),
    "half": with_body(HALF),
    "text": with_body(b"upstream timed out"),
    "page": with_body(b"<html>502 Bad Gateway"),
    "packed half": with_body(
        gzip.compress(HALF + bytes(range(256)) * 9)[:-40], **{"Content-Encoding": "gzip"}
    ),
    "short": shorter_than_declared,
    "closed": closed_early,
}


@pytest.mark.parametrize("fault", CUT.values(), ids=CUT)
def test_cut_answer_is_tried_again(
    sent: Any, chat: Any, chunk: Any, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt is counted and logged, and the answer comes."""
    caplog.set_level(logging.INFO, "llmengine")
    engine, server = sent(first(2, fault, whole("at last", chat, chunk)))

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "at last"
    assert result.attempts == len(server.requests) == 3
    assert len([r for r in caplog.records if "failed, the next in" in r.msg]) == 2


@pytest.mark.parametrize("fault", CUT.values(), ids=CUT)
def test_stream_that_brings_nothing_is_tried_again(
    sent: Any, chat: Any, chunk: Any, fault: Any
) -> None:
    """Only headers came, or a body that is not a stream."""
    engine, server = sent(first(2, fault, whole("at last", chat, chunk)))

    assert "".join(d.text for d in engine.stream("hi")) == "at last"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "body",
    [
        b": keep-alive\n\n",
        b"data: [DONE]\n\n",
        b'data: {"id": "chatcmpl-1", "choi',
        b'data: {"id": "chatcmpl-1", "choi\n\n',
        b'data: {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n',
    ],
)
def test_stream_without_content_and_end_is_tried_again(
    sent: Any, chat: Any, chunk: Any, body: bytes
) -> None:
    """Without any content yet, another attempt repeats nothing."""
    engine, server = sent(first(2, with_body(body), whole("at last", chat, chunk)))

    assert "".join(d.text for d in engine.stream("hi")) == "at last"
    assert len(server.requests) == 3


def test_stream_that_is_cut_after_content_is_not(sent: Any, chunk: Any) -> None:
    """The reader has content already, so the stream is not sent again."""
    body = b"data: " + json.dumps(chunk("Half")).encode() + b'\n\ndata: {"id": "c\n\n'
    engine, server = sent(with_body(body))

    with pytest.raises((UnexpectedResponseError, StreamIncompleteError)) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer is empty"),
        (HALF, "the answer is cut: its JSON has no end"),
        (b"oops", "the answer is not JSON: oops"),
    ],
)
def test_last_error_says_what_came(sent: Any, body: bytes, said: str) -> None:
    """After the last attempt the result has the error of the answer and the number of attempts."""
    engine, server = sent(with_body(body), max_retries=2)

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert said in str(result.error)
    assert result.error.label == "UnexpectedResponseError (HTTP 200), empty or cut"
    assert result.attempts == result.error.attempts == len(server.requests) == 3


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b'{"choices": []}', b'"text"', b"[" * 500])
def test_json_of_another_shape_is_not_tried_again(sent: Any, body: bytes) -> None:
    """It is complete, and a second attempt would get the same."""
    engine, server = sent(with_body(body))

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert result.attempts == len(server.requests) == 1


@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [
        ({"message": "boom"}, InternalServerError, 3),
        ({"message": "boom", "code": 503}, InternalServerError, 3),
        ({"message": "slow down", "code": 429}, RateLimitError, 3),
        ({"message": "no", "code": 400}, BadRequestError, 1),
        ({"message": "who?", "code": "401"}, AuthenticationError, 1),
        ({"message": "paid up?", "code": "insufficient_quota"}, QuotaError, 1),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_error_in_a_200_follows_its_status(
    sent: Any, error: Any, kind: type, attempts: int, streamed: bool
) -> None:
    """An error that a gateway sends with status 200 is that error, also for a stream."""
    engine, server = sent(lambda _, c: c.reply({"error": error}), max_retries=2)

    if streamed:
        with pytest.raises(CallError) as caught:
            list(engine.stream("hi"))
        found = caught.value
    else:
        found = engine.results("hi")[0].error

    assert type(found) is kind
    assert error["message"] in str(found)
    assert found.attempts == len(server.requests) == attempts


def test_cut_lines_of_a_batch_are_asked_again(engine_for: Any, chat: Any, tmp_path: Any) -> None:
    """The same rule holds. A server that sends nothing else counts as one that does not answer."""
    engine, server = engine_for(
        first(2, with_body(HALF), lambda _, c: c.reply(chat())), retry_wait=0.001
    )
    body = {"messages": [{"role": "user", "content": "hi"}]}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}

    report = run_batch([line], tmp_path / "out.jsonl", engine)

    assert report.ok
    assert report.progress.attempts == len(server.requests) == 3


def test_cut_stream_of_ollama_is_tried_again(raw_server: Any) -> None:
    """The same rule holds for its lines."""
    end = {"message": {"content": "at last"}, "done": True, "done_reason": "stop"}
    kind = {"Content-Type": "application/x-ndjson"}
    bodies = itertools.chain(
        [b"", b'{"message": {"cont', b"upstream timed out\n"],
        itertools.repeat(json.dumps(end).encode() + b"\n"),
    )
    server = raw_server(lambda _, c: c.reply(next(bodies), headers=kind))
    engine = EngineConfig(
        backend="ollama_api", model="m", endpoint=server.url, retry_wait=0.001
    ).engine

    assert "".join(d.text for d in engine.stream("hi")) == "at last"
    assert len(server.requests) == 4


def test_one_answer_in_five_is_lost_on_the_way(engine_for: Any, chat: Any) -> None:
    """All of two thousand prompts are answered, and each lost answer costs one more request."""
    faults = itertools.cycle(CUT.values())
    attempts = Counter[int]()

    def handler(request: Any, connection: Any) -> None:
        prompt = int(request.json["messages"][0]["content"])
        attempts[prompt] += 1
        is_lost = (prompt + attempts[prompt]) % 5 == 0
        (next(faults) if is_lost else lambda _, c: c.reply(chat()))(request, connection)

    engine, server = engine_for(handler, max_retries=6, retry_wait=0.001)

    results = engine.results([str(number) for number in range(2000)])

    assert [type(r.error) for r in results if not r.ok] == []
    assert sum(r.attempts for r in results) == len(server.requests) == 2400


def test_short_body_is_a_broken_connection(sent: Any) -> None:
    """A body shorter than its Content-Length is a broken connection."""
    engine, _ = sent(shorter_than_declared, max_retries=0)

    (result,) = engine.results("hi")

    assert type(result.error) is APIConnectionError


@pytest.mark.parametrize(
    "page", [b"<html><p>Sign in</html>", b"\n<!DOCTYPE HTML>\n<p>Hi</HTML> \n"]
)
def test_web_page_at_the_address_is_not_asked_twice(sent: Any, page: bytes) -> None:
    """Whole and streamed; the error says to check the address."""
    kind = {"Content-Type": "text/html; charset=utf-8"}
    engine, server = sent(lambda _, c: c.reply(page, headers=kind), max_retries=3)

    (result,) = engine.results("hi")
    with pytest.raises(UnexpectedResponseError, match="check the engine's endpoint"):
        list(engine.stream("hi"))

    assert isinstance(result.error, UnexpectedResponseError)
    assert "check the engine's endpoint" in str(result.error)
    assert len(server.requests) == 2
