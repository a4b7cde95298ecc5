"""What every backend promises about retries, errors, clocks and streams, on raw sockets."""

from __future__ import annotations

import itertools
import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    EngineConfig,
    NotFoundError,
    QuotaError,
    RateLimitError,
    StreamIncompleteError,
    UnexpectedResponseError,
)

from .fault import BACKENDS
from .wires import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine

    from .fault import Backend

KEY = "sk-key-of-a-promise"


@pytest.fixture(params=list(BACKENDS.values()), ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Each backend in turn, without the settings of this machine."""
    found: Backend = request.param
    if found.client == "sdk":
        pytest.importorskip("openai")
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "VLLM_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    return found


@pytest.fixture
def connect(backend: Backend) -> Callable[..., Engine]:
    """Makes an engine for a server's address."""

    def make(url: str, **config: Any) -> Engine:
        fields = {"model": "m", "retry_wait": 0.001, **backend.config, **config}
        return EngineConfig(endpoint=url + backend.path, **fields).engine

    return make


@pytest.fixture
def serve(connect: Any, raw_server: Any) -> Callable[..., tuple[Engine, Any]]:
    """Makes an engine and the raw server that it talks to, with the answers to its first chats."""

    def make(*answers: Callable[[Any], None], **config: Any) -> tuple[Engine, Any]:
        count = itertools.count()

        def handler(request: Any, connection: Any) -> None:
            if request.method == "GET":  # a backend that asks for facts to explain an error
                connection.reply({})
            else:
                answers[min(next(count), len(answers) - 1)](connection)

        server = raw_server(handler)
        return connect(server.url, **config), server

    return make


def chats(server: Any) -> int:
    """How many chats the server was asked."""
    return sum(request.method == "POST" for request in server.requests)


def refusing(status: int, body: object, **headers: str) -> Callable[[Any], None]:
    """Answers with a status."""
    return lambda connection: connection.reply(body, status=status, headers=headers)


def answering(backend: Backend, text: str) -> Callable[[Any], None]:
    """Answers with that text, as a whole."""
    return lambda connection: connection.reply(backend.wire.answer(text))


def streaming(
    backend: Backend, text: str, last: Callable[[Any], None] | None = None
) -> Callable[[Any], None]:
    """Streams the text; with `last`, streams its first half and does that instead of the rest."""

    def answer(connection: Any) -> None:
        wire = backend.wire
        connection.head(200, {"Content-Type": wire.stream_type, "Transfer-Encoding": "chunked"})
        events = [wire.frame(encode(event)) for event in wire.events(text)]
        texts = [
            n for n, event in enumerate(events) if json.dumps(text[-3:])[1:-1].encode() in event
        ]
        for event in events if last is None else events[: texts[0]]:
            connection.chunk(event)
        if last is not None:
            last(connection)
            return
        connection.chunk(wire.end) if wire.end else None
        connection.chunk(b"")

    return answer


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
def test_refusal_is_sent_once_and_keeps_the_words_of_the_server(
    serve: Any, status: int, code: str | None, kind: type[Exception]
) -> None:
    """A lasting refusal is not retried, and its error has status, code, type and body."""
    body = {"error": {"message": "no way", "type": "t", "param": None, "code": code}}
    engine, server = serve(refusing(status, body))

    (result,) = engine.results("hi")

    assert type(result.error) is kind
    assert (result.error.status, result.error.code, result.error.type) == (status, code, "t")
    assert "no way" in str(result.error)
    assert "no way" in result.error.body
    assert chats(server) == result.attempts == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failure_is_retried(serve: Any, backend: Backend, status: int) -> None:
    """The attempts that are counted are the requests that the server got."""
    later = refusing(status, {"error": {"message": "later"}})
    engine, server = serve(later, answering(backend, "at last"))

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "at last"
    assert chats(server) == result.attempts == 2


def test_retries_end_at_max_retries(serve: Any) -> None:
    """The last error is the result, with the wait that the server asked for."""
    body = {"error": {"message": "busy"}}
    engine, server = serve(refusing(429, body, **{"Retry-After-Ms": "10"}), max_retries=1)

    (result,) = engine.results("hi")

    assert type(result.error) is RateLimitError
    assert result.error.retry_after == 0.01
    assert chats(server) == result.attempts == result.error.attempts == 2


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices": [], "output": 1}', b'"text"'])
def test_body_that_is_not_an_answer_is_never_an_empty_answer(serve: Any, body: bytes) -> None:
    """It is an error of its own, for any JSON."""
    engine, _ = serve(lambda connection: connection.reply(body), max_retries=0)

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError


@pytest.mark.parametrize("status", [301, 307])
def test_redirect_is_not_followed(
    serve: Any, backend: Backend, raw_server: Any, status: int
) -> None:
    """The key must not travel to the address of a redirect."""
    other = raw_server(lambda _, c: answering(backend, "taken")(c))
    engine, _ = serve(refusing(status, {}, Location=other.url), api_key=KEY)

    (result,) = engine.results("hi")

    assert type(result.error) is UnexpectedResponseError
    assert "redirect" in str(result.error)
    assert result.attempts == 1
    assert other.requests == []


def test_key_is_sent_once_as_a_bearer(serve: Any, backend: Backend) -> None:
    """One header of each request has it, and no error."""
    engine, server = serve(refusing(401, {"error": {"message": f"bad {KEY}"}}), api_key=KEY)

    (result,) = engine.results("hi")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(result.error) + str(result.error.body)


def test_address_without_a_server_is_a_connection_error(connect: Any) -> None:
    """The message has the address."""
    (result,) = connect("http://127.0.0.1:9", max_retries=0).results("hi")

    assert type(result.error) is APIConnectionError
    assert "cannot connect to http://127.0.0.1:9/" in str(result.error)


def test_connection_that_is_dropped_is_retried(serve: Any, backend: Backend) -> None:
    """A connection that ends without an answer has answered nothing."""
    engine, server = serve(lambda connection: connection.drop(), answering(backend, "at last"))

    (result,) = engine.results("hi")

    assert (result.attempts, result.unwrap().outputs[0].text) == (2, "at last")
    assert chats(server) == 2


# ---- clocks


def test_total_clock_ends_a_whole_answer_that_does_not_come(serve: Any, clock: Any) -> None:
    """The request is sent once, because the server may have done the work."""

    def silent(connection: Any) -> None:
        clock.advance(60)
        connection.pause(60)

    engine, server = serve(silent, timeout=60)

    (result,) = engine.results("hi")

    assert type(result.error) is APITimeoutError
    assert result.error.clock == "total"
    assert "within 60 s" in str(result.error)
    assert chats(server) == 1


def test_connect_clock_ends_a_connection_that_is_not_accepted(connect: Any) -> None:
    """A listener whose backlog is full leaves new connections waiting."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        url = f"http://127.0.0.1:{address[1]}"

        (result,) = connect(url, timeout={"connect": 0.2}, max_retries=0).results("hi")

    assert type(result.error) is APITimeoutError
    assert result.error.clock == "connect"


@pytest.mark.parametrize("name", ["gap", "total"])
def test_clock_of_a_stream_keeps_the_text_that_came(
    serve: Any, backend: Backend, clock: Any, name: str
) -> None:
    """The stream is not asked for again, because its reader has text already."""
    engine, server = serve(
        streaming(backend, "One and two", lambda connection: connection.pause(60)),
        timeout={"total": None} | {name: 60},
    )
    stream = engine.stream("hi")
    read = [next(delta for delta in stream if delta.text)]

    with clock.passing(5), pytest.raises(APITimeoutError) as caught:
        read.extend(stream)

    assert caught.value.clock == name
    assert "".join(d.text for d in read) == caught.value.partial.outputs[0].text
    assert "One and two".startswith(caught.value.partial.outputs[0].text)
    assert caught.value.partial.outputs[0].text
    assert chats(server) == 1


def test_first_token_clock_ends_a_stream_without_content(
    serve: Any, backend: Backend, clock: Any
) -> None:
    """The headers of an answer are not its first token."""

    def silent(connection: Any) -> None:
        connection.head(
            200, {"Content-Type": backend.wire.stream_type, "Transfer-Encoding": "chunked"}
        )
        clock.advance(60)
        connection.pause(60)

    engine, _ = serve(silent, timeout={"total": None, "first_token": 60}, max_retries=0)

    with pytest.raises(APITimeoutError) as caught:
        list(engine.stream("hi"))

    assert caught.value.clock == "first_token"


# ---- streams


def test_stream_joins_to_the_whole_answer(serve: Any, backend: Backend) -> None:
    """The deltas have the text, the last ones the reason and the usage."""
    engine, _ = serve(streaming(backend, "One and two"))

    deltas = list(engine.stream("hi"))

    assert "".join(delta.text for delta in deltas) == "One and two"
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    assert [delta.usage.total_tokens for delta in deltas if delta.usage] == [5]


def test_stream_without_its_end_is_incomplete(serve: Any, backend: Backend) -> None:
    """A body that ends in the middle is an error that holds the text."""
    engine, server = serve(
        streaming(backend, "One and two", lambda connection: connection.chunk(b""))
    )

    with pytest.raises(StreamIncompleteError) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text
    assert chats(server) == 1


def test_stream_that_breaks_keeps_its_text(serve: Any, backend: Backend) -> None:
    """A connection that is dropped in the middle is an error that holds the text."""
    engine, server = serve(streaming(backend, "One and two", lambda connection: connection.drop()))

    with pytest.raises(APIConnectionError) as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text
    assert chats(server) == 1


def test_stream_is_retried_before_its_first_content(serve: Any, backend: Backend) -> None:
    """The reader has no text yet that could be doubled."""
    engine, server = serve(
        refusing(503, {"error": {"message": "warming up"}}), streaming(backend, "Hello there")
    )

    assert "".join(delta.text for delta in engine.stream("hi")) == "Hello there"
    assert chats(server) == 2


def test_whole_answer_instead_of_a_stream_is_kept(serve: Any, backend: Backend) -> None:
    """A server that ignores ``stream`` causes an error that holds its answer."""
    engine, _ = serve(answering(backend, "All at once"))

    with pytest.raises(UnexpectedResponseError, match="asked for a stream") as caught:
        list(engine.stream("hi"))

    assert caught.value.partial.outputs[0].text == "All at once"
