"""stream: what is delivered when, and how a stream that breaks is told from one that ends."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from llmengine import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    CallError,
    InternalServerError,
    RateLimitError,
    StreamIncompleteError,
    UnexpectedResponseError,
)


def streaming(chunk: Any, *words: str, done: bool = True) -> Any:
    """A handler that streams the words, a finish and ``[DONE]``."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(*(chunk(word) for word in words))
        if done:
            connection.sse(chunk(finish="stop"), ...)
        connection.chunk(b"")

    return handler


def test_deltas_join_to_the_answer(engine_for: Any, chunk: Any) -> None:
    """Texts come in order and the last delta has the finish reason."""
    engine, server = engine_for(streaming(chunk, "Hel", "lo ", "you"))

    deltas = list(engine.stream("hi"))

    assert "".join(d.text for d in deltas) == "Hello you"
    assert deltas[-1].finish_reason == "stop"
    assert server.requests[0].json["stream"] is True


def test_deltas_come_while_the_server_still_works(engine_for: Any, chunk: Any) -> None:
    """The first text can be read before the last was sent."""
    read_first = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("first"))
        assert read_first.wait(5)
        connection.sse(chunk("last"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)
    deltas = engine.stream("hi")

    assert next(deltas).text == "first"
    read_first.set()
    assert "".join(d.text for d in deltas) == "last"


def test_stream_without_its_end_is_incomplete(engine_for: Any, chunk: Any) -> None:
    """A body that ends cleanly but early is an error that holds what came."""
    engine, server = engine_for(streaming(chunk, "Half an ", "answer", done=False))
    read = []

    with pytest.raises(StreamIncompleteError) as caught:
        read.extend(engine.stream("hi"))

    assert "".join(d.text for d in read) == "Half an answer"
    assert caught.value.partial.outputs[0].text == "Half an answer"
    assert len(server.requests) == 1


def test_connection_that_breaks_in_mid_stream_keeps_the_text(engine_for: Any, chunk: Any) -> None:
    """Content was delivered, so there is no second attempt, and nothing is lost."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Half"))
        connection.drop()

    engine, server = engine_for(handler)

    with pytest.raises(APIConnectionError) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"
    assert len(server.requests) == 1


def test_failure_before_the_first_content_is_tried_again(engine_for: Any, chunk: Any) -> None:
    """As long as nothing was delivered a stream is retried like any call."""
    count = itertools.count()

    def handler(request: Any, connection: Any) -> None:
        if next(count) == 0:
            connection.reply({"error": {"message": "warming up"}}, status=503)
        else:
            streaming(chunk, "Hello")(request, connection)

    engine, server = engine_for(handler)

    assert "".join(d.text for d in engine.stream("hi")) == "Hello"
    assert len(server.requests) == 2


def test_error_in_the_stream_is_raised_with_the_text_so_far(engine_for: Any, chunk: Any) -> None:
    """An error event ends the stream as that error, although ``[DONE]`` follows it."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Half"), {"error": {"message": "engine died", "code": 500}}, ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler, max_retries=0)

    with pytest.raises(InternalServerError, match="engine died") as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"error": {"message": "no cats left", "code": 429}}, 200, RateLimitError, "no cats left"),
        ({"error": "no cats left"}, 200, InternalServerError, "no cats left"),
        ({"error": {"message": "no cats left"}}, 400, BadRequestError, "no cats left"),
        (b"<title>Maintenance</title>", 200, UnexpectedResponseError, "Maintenance"),
        ({"detail": "no cats left"}, 200, UnexpectedResponseError, "no cats left"),
    ],
)
def test_error_instead_of_a_stream_keeps_its_words(
    engine_for: Any, body: Any, status: int, kind: type[CallError], words: str
) -> None:
    """Whatever its status, what the server says is in the error."""
    engine, _ = engine_for(lambda _, c: c.reply(body, status=status), max_retries=0)

    with pytest.raises(kind, match=words):
        list(engine.stream("hi"))


def test_content_type_of_a_stream_has_no_case(engine_for: Any, chunk: Any) -> None:
    """Its name is the same in capitals."""

    def handler(_: Any, connection: Any) -> None:
        headers = {"Content-Type": "Text/Event-Stream; Charset=UTF-8"}
        connection.head(200, {**headers, "Transfer-Encoding": "chunked"})
        connection.sse(chunk("Hello"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    assert "".join(d.text for d in engine.stream("hi")) == "Hello"


def test_whole_answer_instead_of_a_stream_is_kept(engine_for: Any, chat: Any) -> None:
    """A server that ignores ``stream`` is an error that holds its answer."""
    engine, _ = engine_for(lambda _, c: c.reply(chat("All at once")))

    with pytest.raises(UnexpectedResponseError, match="asked for a stream") as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "All at once"


@pytest.mark.parametrize("name", ["first_token", "gap", "total"])
def test_each_clock_of_a_stream_runs_out(
    engine_for: Any, chunk: Any, clock: Any, aside: Any, until: Any, name: str
) -> None:
    """Keep-alive comments do not wind a clock up, and the error names the clock."""
    comments = 0

    def handler(_: Any, connection: Any) -> None:
        nonlocal comments
        connection.start_sse()
        if name != "first_token":
            connection.sse(chunk("Half"))
        while True:
            connection.sse(": keep-alive")
            comments += 1
            connection.pause(0.005)

    engine, server = engine_for(handler, timeout={"total": None} | {name: 20})
    read: list[Any] = []
    reading = aside(lambda: read.extend(engine.stream("hi")))
    until(lambda: comments)
    if name != "first_token":
        until(lambda: read)
    clock.settle()

    with clock.passing(1):
        error = reading.exception(60)

    assert isinstance(error, APITimeoutError)
    assert error.clock == name
    texts = [o.text for o in error.partial.outputs]
    assert texts == ([""] if name == "first_token" else ["Half"])
    assert len(server.requests) == 1


def test_reader_that_stops_hangs_up(engine_for: Any, chunk: Any) -> None:
    """Leaving the loop closes the connection, so that the server can stop generating."""
    gone = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        try:
            for _ in range(500):
                connection.sse(chunk("more "))
                connection.pause(0.01)
        except OSError:
            gone.set()
            raise

    engine, _ = engine_for(handler)
    deltas = engine.stream("hi")
    next(deltas)

    deltas.close()

    assert gone.wait(5)


def test_every_broken_stream_is_one_kind_of_error(engine_for: Any) -> None:
    """Whatever comes back, a caller can catch CallError."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse("data: {not json")
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    with pytest.raises(CallError):
        list(engine.stream("hi"))
