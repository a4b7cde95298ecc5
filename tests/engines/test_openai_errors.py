"""The openai backend against a server that fails in every way: errors, retries, clocks."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest

from llmengine import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ContextLengthError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    StreamIncompleteError,
    UnexpectedResponseError,
)
from llmengine.dialects.errors import failure

openai = pytest.importorskip("openai")


def response_body(text: str = "Hello!", **fields: Any) -> dict[str, Any]:
    """A whole response with that text."""
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    whole = {"id": "resp_1", "object": "response", "model": "m", "status": "completed"}
    return whole | {"output": [message], "usage": usage, "error": None} | fields


def text_event(text: str) -> dict[str, Any]:
    """The event of a piece of text."""
    return {"type": "response.output_text.delta", "output_index": 0, "delta": text}


@pytest.fixture
def whole(api: str, chat: Any) -> Any:
    """Makes whole answers of the API."""
    return response_body if api == "responses" else chat


@pytest.fixture
def piece(api: str, chunk: Any) -> Any:
    """Makes events that bring text, in the API."""
    return text_event if api == "responses" else chunk


@pytest.fixture
def serve(raw_server: Any, openai_engine: Any, api: str) -> Any:
    """Makes an engine and the raw server that it talks to."""

    def make(handler: Any, **config: Any) -> tuple[Any, Any]:
        server = raw_server(handler)
        return openai_engine(f"{server.url}/v1", api, **config), server

    return make


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, BadRequestError),
        (400, "context_length_exceeded", ContextLengthError),
        (401, "invalid_api_key", AuthenticationError),
        (403, None, AuthenticationError),
        (404, "model_not_found", NotFoundError),
        (409, None, BadRequestError),
        (422, None, BadRequestError),
        (429, "insufficient_quota", QuotaError),
    ],
)
def test_refusals_are_asked_once_and_keep_what_the_server_said(
    serve: Any, status: int, code: str | None, kind: type[Exception]
) -> None:
    """One layer of retries, ours, and the same errors as of every engine."""
    body = {"error": {"message": "no way", "type": "t", "param": None, "code": code}}
    engine, server = serve(lambda _, c: c.reply(body, status=status))

    (result,) = engine.results("hi")

    assert type(result.error) is kind
    assert (result.error.status, result.error.code, result.error.type) == (status, code, "t")
    assert "no way" in str(result.error)
    assert "no way" in result.error.body
    assert len(server.requests) == result.attempts == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_trouble_is_tried_again_by_our_rules(serve: Any, whole: Any, status: int) -> None:
    """The SDK's own retries are off: the calls that the server saw are the attempts counted."""
    count = itertools.count()

    def handler(_: Any, connection: Any) -> None:
        if next(count) == 0:
            connection.reply({"error": {"message": "later"}}, status=status)
        else:
            connection.reply(whole("at last"))

    engine, server = serve(handler)

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "at last"
    assert len(server.requests) == result.attempts == 2


def test_trouble_that_stays_is_given_up_after_our_count(serve: Any) -> None:
    """max_retries is the engine's, and Retry-After is on the error."""
    headers = {"Retry-After-Ms": "10"}
    engine, server = serve(
        lambda _, c: c.reply({"error": {"message": "busy"}}, status=429, headers=headers),
        max_retries=1,
    )

    (result,) = engine.results("hi")

    assert type(result.error) is RateLimitError
    assert result.error.retry_after == 0.01
    assert len(server.requests) == result.attempts == result.error.attempts == 2


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"choices": [], "output": 1}', b'{"status": "queued"}']
)
def test_body_that_is_no_answer_is_never_an_empty_one(serve: Any, body: bytes) -> None:
    """Where the SDK would give an empty object, the error quotes what came."""
    engine, _ = serve(lambda _, c: c.reply(body))

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError


@pytest.mark.parametrize("status", [301, 307])
def test_redirect_is_not_followed(serve: Any, whole: Any, raw_server: Any, status: int) -> None:
    """The key must not travel to where a redirect points, which the SDK would let it."""
    other = raw_server(lambda _, c: c.reply(whole()))
    engine, _ = serve(
        lambda _, c: c.reply({}, status=status, headers={"Location": other.url}), api_key="sk-key-1"
    )

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert "redirect" in str(result.error)
    assert other.requests == []


def test_nobody_listening_is_a_connection_error(openai_engine: Any, api: str) -> None:
    """The message has the address."""
    engine = openai_engine("http://127.0.0.1:9/v1", api, max_retries=0)

    (result,) = engine.results("hi")

    assert type(result.error) is APIConnectionError
    assert "cannot connect to http://127.0.0.1:9/v1/" in str(result.error)


def test_connection_that_breaks_is_tried_again(serve: Any, whole: Any) -> None:
    """A connection dropped without an answer is no answer."""
    count = itertools.count()

    def handler(_: Any, connection: Any) -> None:
        if next(count) == 0:
            connection.drop()
        else:
            connection.reply(whole("at last"))

    engine, _ = serve(handler)

    (result,) = engine.results("hi")

    assert (result.attempts, result.unwrap().outputs[0].text) == (2, "at last")


# ---- clocks


def test_total_clock_ends_a_whole_answer_that_does_not_come(serve: Any) -> None:
    """It is asked once: the work may have been done."""
    engine, server = serve(lambda _, c: c.pause(5), timeout=0.2)

    (result,) = engine.results("hi")

    assert type(result.error) is APITimeoutError
    assert result.error.clock == "total"
    assert len(server.requests) == 1


def test_connect_clock_ends_a_handshake_that_nobody_answers(openai_engine: Any, api: str) -> None:
    """A socket whose backlog is full leaves new connections waiting."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        full = [socket.socket() for _ in range(8)]
        for filler in full:
            filler.setblocking(False)
            filler.connect_ex(address)
        engine = openai_engine(
            f"http://127.0.0.1:{address[1]}/v1", api, timeout={"connect": 0.2}, max_retries=0
        )

        (result,) = engine.results("hi")

        for filler in full:
            filler.close()
    assert type(result.error) is APITimeoutError
    assert result.error.clock == "connect"


@pytest.mark.parametrize(
    ("clock", "pauses"),
    [("first_token", (0.6, 0)), ("gap", (0, 0.6)), ("total", (0, 0.6))],
)
def test_each_clock_of_a_stream_is_named_and_keeps_the_text(
    serve: Any, piece: Any, clock: str, pauses: tuple[float, float]
) -> None:
    """Comments that keep the connection alive move none of them."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(": waiting")
        connection.pause(pauses[0])
        connection.sse(piece("Half"))
        connection.pause(pauses[1])
        connection.sse(piece(" and half"))
        connection.chunk(b"")

    engine, server = serve(handler, timeout={clock: 0.2})
    read = []

    with pytest.raises(APITimeoutError) as caught:
        read.extend(engine.stream("hi"))

    assert caught.value.clock == clock
    partial = caught.value.partial.outputs
    assert [o.text for o in partial] == ([""] if clock == "first_token" else ["Half"])
    assert "".join(d.text for d in read) == "".join(o.text for o in partial)
    assert len(server.requests) == 1


# ---- streams


def test_stream_without_its_end_is_incomplete(serve: Any, piece: Any) -> None:
    """The SDK ends such a stream as if all were well; here it is an error with the text."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(piece("Half"))
        connection.chunk(b"")

    engine, server = serve(handler)

    with pytest.raises(StreamIncompleteError) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"
    assert len(server.requests) == 1


def test_stream_that_breaks_keeps_the_text(serve: Any, piece: Any) -> None:
    """What the SDK's HTTP client raises in mid-stream is our connection error."""

    def handler(_: Any, connection: Any) -> None:
        connection.start_sse()
        connection.sse(piece("Half"))
        connection.drop()

    engine, server = serve(handler)

    with pytest.raises(APIConnectionError) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "Half"
    assert len(server.requests) == 1


def test_stream_that_is_refused_is_tried_again(serve: Any, piece: Any, api: str) -> None:
    """Before the first content a stream is retried like any call."""
    count = itertools.count()
    ended = {"type": "response.completed", "response": response_body()}

    def handler(_: Any, connection: Any) -> None:
        if next(count) == 0:
            connection.reply({"error": {"message": "warming up"}}, status=503)
            return
        connection.start_sse()
        end = ended if api == "responses" else piece(finish="stop")
        connection.sse(piece("Hello"), end, ...)
        connection.chunk(b"")

    engine, server = serve(handler)

    assert "".join(d.text for d in engine.stream("hi")) == "Hello"
    assert len(server.requests) == 2


def test_whole_answer_instead_of_a_stream_is_kept(serve: Any, whole: Any) -> None:
    """A server that ignores ``stream`` is an error that holds its answer."""
    engine, _ = serve(lambda _, c: c.reply(whole("All at once")))

    with pytest.raises(UnexpectedResponseError, match="asked for a stream") as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "All at once"


# ---- every exception of the SDK


def _exceptions() -> list[type[Exception]]:
    found = [value for name, value in vars(openai).items() if not name.startswith("_")]
    return [c for c in found if isinstance(c, type) and issubclass(c, Exception)]


def _raised(kind: type[Exception]) -> Exception:
    """An instance as the SDK would raise it, without knowing its arguments."""
    error = kind.__new__(kind)
    Exception.__init__(error, "from the SDK")
    return error


@pytest.mark.parametrize("kind", _exceptions(), ids=lambda kind: kind.__name__)
def test_every_public_exception_of_the_sdk_has_an_error_here(kind: type[Exception]) -> None:
    """A new class in a new SDK either derives from one that is known, or fails this test."""
    from llmengine.openai_sdk import ours, reply_in  # noqa: PLC0415 - needs the SDK

    error = _raised(kind)
    if issubclass(kind, openai.APIStatusError):
        error.response = _Response()  # type: ignore[attr-defined]
        reply = reply_in(error)
        assert reply is not None
        meant: CallError | None = failure(reply.status, reply.headers, reply.body)
    else:
        meant = ours(error, "http://host/v1")

    assert isinstance(meant, CallError)
    assert type(meant) is not CallError


class _Response:
    """What is read of an HTTP response of either generation."""

    status_code = 409
    headers: dict[str, str] = {}  # noqa: RUF012 - never written
    content = b"{}"
