"""stream: when deltas are delivered, and how a broken stream differs from a complete one."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from llmengine import (
    APITimeoutError,
    BadRequestError,
    CallError,
    InternalServerError,
    RateLimitError,
    UnexpectedResponseError,
)


def streaming(chunk: Any, *words: str, done: bool = True) -> Any:
    """A handler that streams the words, a finish_reason and ``[DONE]``."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(*(chunk(word) for word in words))
        if done:
            connection.sse(chunk(finish="stop"), ...)
        connection.chunk(b"")

    return handler


def test_deltas_come_while_the_server_still_works(engine_for: Any, chunk: Any) -> None:
    """The first text can be read before the last is sent."""
    read_first = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("first"))
        assert read_first.wait(30)
        connection.sse(chunk("last"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)
    deltas = engine.stream("hi")

    assert next(deltas).text == "first"
    read_first.set()
    assert "".join(d.text for d in deltas) == "last"


def test_error_in_the_stream_is_raised_with_the_text_so_far(engine_for: Any, chunk: Any) -> None:
    """An error event ends the stream with that error, also if ``[DONE]`` follows."""

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
    """The error has the message of the server, for any status."""
    engine, _ = engine_for(lambda _, c: c.reply(body, status=status), max_retries=0)

    with pytest.raises(kind, match=words):
        list(engine.stream("hi"))


def test_content_type_of_a_stream_has_no_case(engine_for: Any, chunk: Any) -> None:
    """The type may be written in capitals."""

    def handler(_: Any, connection: Any) -> None:
        headers = {"Content-Type": "Text/Event-Stream; Charset=UTF-8"}
        connection.head(200, {**headers, "Transfer-Encoding": "chunked"})
        connection.sse(chunk("Hello"), chunk(finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    assert "".join(d.text for d in engine.stream("hi")) == "Hello"


@pytest.mark.parametrize("name", ["first_token", "gap", "total"])
def test_each_clock_of_a_stream_runs_out(
    engine_for: Any, chunk: Any, clock: Any, in_thread: Any, wait_until: Any, name: str
) -> None:
    """Keep-alive comments restart no clock, and the error names the clock."""
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
    reading = in_thread(lambda: read.extend(engine.stream("hi")))
    wait_until(lambda: comments)
    if name != "first_token":
        wait_until(lambda: read)
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
            while not connection.stopping.is_set():
                connection.sse(chunk("more "))
                connection.pause(0.01)
        except OSError:
            gone.set()
            raise

    engine, _ = engine_for(handler)
    deltas = engine.stream("hi")
    next(deltas)

    deltas.close()

    assert gone.wait(30)


def test_interrupt_of_a_reader_that_waits_hangs_up(engine_for: Any) -> None:
    """Ctrl-C ends the wait for the next delta, and the stream."""
    gone = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        if connection.sock.recv(1) == b"":
            gone.set()

    engine, _ = engine_for(handler)

    with pytest.raises(KeyboardInterrupt):
        list(engine.stream("hi"))

    assert gone.wait(30)


def test_every_broken_stream_is_one_kind_of_error(engine_for: Any) -> None:
    """A caller can catch CallError for every one."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse("data: {not json")
        connection.chunk(b"")

    engine, _ = engine_for(handler)

    with pytest.raises(CallError):
        list(engine.stream("hi"))


def test_gap_clock_is_shorter_than_the_first_token_clock(
    engine_for: Any, chunk: Any, clock: Any, in_thread: Any, wait_until: Any
) -> None:
    """The first content brings the deadline forward, also if nothing at all arrives after it."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(chunk("Half"))
        connection.pause(60)

    engine, _ = engine_for(handler, timeout={"total": None, "first_token": 1000, "gap": 20})
    read: list[Any] = []
    reading = in_thread(lambda: read.extend(engine.stream("hi")))
    wait_until(lambda: read)

    clock.advance(20)

    error = reading.exception(60)
    assert isinstance(error, APITimeoutError)
    assert error.clock == "gap"


def test_slow_reader_is_not_a_slow_server(engine_for: Any, chunk: Any, clock: Any) -> None:
    """No clock of silence runs while the reader has not taken what has arrived."""
    words = 2000  # more than wait for a reader
    sent = threading.Event()

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(*(chunk("word ") for _ in range(words)), chunk(finish="stop"), ...)
        connection.chunk(b"")
        sent.set()

    engine, _ = engine_for(handler, timeout={"total": None, "first_token": 20, "gap": 20})
    deltas = engine.stream("hi")
    texts = [next(deltas).text]
    assert sent.wait(30)
    clock.settle()

    clock.advance(1000)
    clock.settle()

    assert "".join([*texts, *(d.text for d in deltas)]) == "word " * words
