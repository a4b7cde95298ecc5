"""Faults on request, as a raw client sees them."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from llmengine.mock import Fault, Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Api

CHAT = "/v1/chat/completions"
STREAM = {"messages": [{"role": "user", "content": "x"}], "stream": True}


@pytest.fixture
def play(start: Callable[..., Api]) -> Callable[..., Api]:
    """Starts a server with these faults."""
    return lambda *faults: start(script=Script(faults=faults))


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (429, "requests", "rate_limit_exceeded"),
        (500, "server_error", None),
        (503, "server_error", None),
        (529, "server_error", None),
        (401, "invalid_request_error", "invalid_api_key"),
        (418, "invalid_request_error", None),
    ],
)
def test_status_is_played_in_the_envelope(
    play: Callable[..., Api], status: int, kind: str, code: str | None
) -> None:
    """An error status has OpenAI's error object, also for a request for a stream."""
    api = play(Fault(status=status), Fault(status=status))

    for response in (api.chat(), api.post(CHAT, **STREAM)):
        error = response.json()["error"]
        assert response.status_code == status
        assert (error["type"], error["code"], error["param"]) == (kind, code, None)


@pytest.mark.parametrize(("seconds", "header"), [(2, "2"), (0.25, "0.25"), (None, None)])
def test_retry_after_is_in_the_header(
    play: Callable[..., Api], seconds: float | None, header: str | None
) -> None:
    """Retry-After has the seconds, and is missing by default."""
    response = play(Fault(status=429, retry_after=seconds)).chat()

    assert response.headers.get("retry-after") == header


def test_status_on_ollamas_paths(play: Callable[..., Api]) -> None:
    """On Ollama's paths the error has Ollama's format."""
    response = play(Fault(status=503)).post("/api/chat", messages=[])

    assert response.status_code == 503
    assert isinstance(response.json()["error"], str)


def test_faults_pair_with_calls(play: Callable[..., Api]) -> None:
    """None means no fault, and there are no faults after the last one."""
    api = play(Fault(status=500), None, Fault(status=503))

    assert [api.chat().status_code for _ in range(5)] == [500, 200, 503, 200, 200]


def test_delay_holds_the_first_byte(play: Callable[..., Api]) -> None:
    """The answer does not come before the delay, and other calls do not wait."""
    api = play(Fault(delay=600))

    with pytest.raises(httpx.ReadTimeout):
        api.http.post(CHAT, json={}, timeout=httpx.Timeout(30, read=0.1))
    assert api.chat().status_code == 200


def test_chunk_delay_spreads_a_stream(play: Callable[..., Api]) -> None:
    """The first chunk is sent at once, and the next one after the delay."""
    api = play(Fault(chunk_delay=600))
    body = json.dumps({"model": "mock", "max_tokens": 4, **STREAM}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection(api.server.root_url.removeprefix("http://").split(":")) as raw:
        raw.settimeout(30)
        raw.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        received = bytearray()
        _receive(raw, received, until=b"data: ")
        raw.settimeout(0.1)
        with pytest.raises(TimeoutError):
            _receive(raw, received, until=b"[DONE]")

    assert b"content-type: text/event-stream" in received.lower()
    assert received.count(b"data: ") == 1


def _receive(connection: socket.socket, received: bytearray, until: bytes) -> None:
    while until not in received:
        received += connection.recv(65536)


def test_cut_before_any_byte(play: Callable[..., Api]) -> None:
    """The connection is dropped without a status."""
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        play(Fault(cut_after=0)).chat()


def test_cut_in_mid_stream(play: Callable[..., Api]) -> None:
    """The stream stops after so many chunks, and the client sees that it is incomplete."""
    api = play(Fault(cut_after=3))
    with api.http.stream("POST", CHAT, json={"model": "mock", **STREAM}) as response:
        parts = response.iter_raw()
        chunks = [next(parts) for _ in range(3)]
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            next(parts)

    assert all(c.startswith(b"data: {") for c in chunks)


def test_cut_of_a_whole_body(play: Callable[..., Api]) -> None:
    """A body that is not streamed can be cut between the chunks that it is split into."""
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        play(Fault(split_at=20, cut_after=2)).chat()


def test_malformed_whole_body(play: Callable[..., Api]) -> None:
    """The body of a 200 is not JSON."""
    response = play(Fault(malformed_json=True)).chat()

    assert response.status_code == 200
    with pytest.raises(ValueError, match="line 1"):
        response.json()


def test_malformed_event(play: Callable[..., Api]) -> None:
    """One event of the stream is not JSON, and the others are."""
    text = play(Fault(malformed_json=True)).post(CHAT, **STREAM).text
    data = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    broken = [d for d in data if not _parses(d)]

    assert len(broken) == 1
    assert len(data) > 10


def test_malformed_line(play: Callable[..., Api]) -> None:
    """One line of Ollama's NDJSON is not JSON, and the others are."""
    lines = play(Fault(malformed_json=True)).post("/api/chat", **STREAM).text.splitlines()

    assert sum(not _parses(line) for line in lines) == 1


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_content_type_is_replaced(play: Callable[..., Api]) -> None:
    """The body is right, and the content type is wrong."""
    response = play(Fault(content_type="text/html")).chat()

    assert response.headers["content-type"] == "text/html"
    assert response.json()["choices"]


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_are_split_again(play: Callable[..., Api], stream: bool) -> None:
    """Chunks have the given size, also inside a character, and no byte is lost."""
    api = play(None, Fault(split_at=7))
    prompt = [{"role": "user", "content": "Repeat this: 日本語 🎉"}]
    body = {"model": "mock", "messages": prompt, "stream": stream}
    plain = api.http.post(CHAT, json=body).text
    with api.http.stream("POST", CHAT, json=body) as response:
        chunks = list(response.iter_raw())

    if stream:
        assert {len(c) for c in chunks[:-1]} == {7}
    assert _said(b"".join(chunks).decode()) == _said(plain)
    assert "日本語 🎉" in _said(plain)


def _said(text: str) -> str:
    """An answer without its id."""
    events = [line.removeprefix("data: ") for line in text.splitlines()]
    choices = [json.loads(e)["choices"][0] for e in events if e.startswith("{")]
    return "".join((c.get("message") or c["delta"]).get("content") or "" for c in choices)


def test_bytes_are_cut_at_positions(play: Callable[..., Api]) -> None:
    """Several numbers are positions in the body; those after its end have no effect."""
    api = play(Fault(split_at=(10, 3, 10_000_000)))
    with api.http.stream("POST", CHAT, json={"model": "mock", **STREAM}) as response:
        chunks = list(response.iter_raw())

    assert [len(c) for c in chunks[:2]] == [3, 7]
    assert len(chunks) == 3


def test_keep_alive_is_dropped(play: Callable[..., Api]) -> None:
    """The answer is complete and does not announce that the connection is then closed."""
    api = play(Fault(drop_keepalive=True))
    with socket.create_connection(api.server.root_url.removeprefix("http://").split(":")) as raw:
        raw.settimeout(30)
        raw.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        received = b""
        while piece := raw.recv(65536):
            received += piece

    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"}]}")
    assert b"connection: close" not in received.lower()


def test_calls_with_faults_are_recorded(play: Callable[..., Api]) -> None:
    """A request with a fault is among the server's calls."""
    api = play(Fault(status=500), Fault(delay=0.001))
    api.chat()
    api.chat()

    assert [c.path for c in api.server.calls] == [CHAT, CHAT]
