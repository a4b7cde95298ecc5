"""The life of a proxy: one cassette at a time, clear messages, and nothing left running."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from llmengine import ConfigError
from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, Whole


@pytest.fixture
def recorded(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Path:
    """A cassette with one exchange."""
    upstream.will_send(whole(b"hello"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        ask(recorder.root_url)
    return path


def test_several_cassettes_on_one_address(recorded: Path, ask: Ask) -> None:
    """A session keeps its address; each test has its own file, or the same one again."""
    with ReplayServer() as player:
        for _ in range(2):
            with player.cassette(recorded):
                assert ask(player.root_url).text == "hello"


def test_one_cassette_at_a_time(recorded: Path) -> None:
    """Two at once could not be kept apart, so the second is refused."""
    with (
        ReplayServer() as player,
        player.cassette(recorded),
        pytest.raises(RuntimeError, match="still open"),
        player.cassette(recorded),
    ):
        pass


def test_a_call_outside_of_a_cassette_is_a_stray(
    upstream: RawUpstream, recorded: Path, ask: Ask
) -> None:
    """It gets an answer that says what to do, is never forwarded, and is noted."""
    for proxy in (RecordServer(upstream.url), ReplayServer()):
        with proxy:
            answer = ask(proxy.root_url)
        assert answer.status_code == 501
        assert "no cassette was open" in answer.json()["error"]["message"]
        assert len(proxy.without_cassette) == 1
    assert len(upstream.requests) == 1
    assert recorded.exists()


def test_a_test_that_fails_is_recorded(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """The replay of its outcome needs the exchange."""
    upstream.will_send(whole(b"wrong"))
    with (
        RecordServer(upstream.url) as recorder,
        pytest.raises(AssertionError),
        recorder.cassette(path),
    ):
        assert ask(recorder.root_url).text == "right"
    assert "wrong" in path.read_text()


def test_an_interrupted_run_leaves_the_file(upstream: RawUpstream, recorded: Path) -> None:
    """Ctrl-C in the middle does not replace a good recording by a part of one."""
    before = recorded.read_text()
    with (
        RecordServer(upstream.url) as recorder,
        pytest.raises(KeyboardInterrupt),
        recorder.cassette(recorded),
    ):
        raise KeyboardInterrupt
    assert recorded.read_text() == before


def test_a_port_in_use_is_named(recorded: Path) -> None:
    """The error has the port and what to do."""
    with ReplayServer() as player:
        port = int(player.root_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=f"127.0.0.1:{port} .* give another port"):
            ReplayServer(port=port).start()
    assert recorded.exists()


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", "http://u:p@host"])
def test_an_invalid_upstream_is_refused(url: str) -> None:
    """The error comes before the proxy listens, and shows no password."""
    with pytest.raises(ConfigError, match="upstream is") as caught:
        RecordServer(url)
    assert "u:p" not in str(caught.value)


def test_a_request_that_is_not_http_gets_a_400(recorded: Path) -> None:
    """The answer says what was expected."""
    with ReplayServer() as player, player.cassette(recorded):
        host, port = player.root_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"HELLO\r\n\r\n")
            answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")


def test_requests_sent_ahead_are_answered_in_turn(
    upstream: RawUpstream, whole: Whole, path: Path
) -> None:
    """A request that comes during another one waits for its answer."""
    go_on = threading.Event()
    upstream.will_send(go_on, whole(b"first"))
    upstream.will_send(whole(b"second"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        host, port = recorder.root_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
            assert upstream.arrived.acquire(timeout=10)
            connection.sendall(b"GET / HTTP/1.1\r\n")
            time.sleep(0.02)  # for the server to read it while it is answering
            go_on.set()
            upstream.will_send(whole(b"third"))
            connection.sendall(b"Host: localhost\r\n\r\n")
            data = b""
            while b"third" not in data:
                data += connection.recv(65536)
                assert data
    assert data.index(b"first") < data.index(b"second") < data.index(b"third")


def test_expect_100_continue_is_answered(recorded: Path) -> None:
    """Curl waits for it before it sends a long body."""
    with ReplayServer() as player, player.cassette(recorded):
        host, port = player.root_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 100")
            connection.sendall(b'{"n":1}')
            data = b""
            while b"hello" not in data:
                data += connection.recv(65536)
                assert data


def test_nothing_is_left_running(recorded: Path, ask: Ask) -> None:
    """The thread ends with the server, even if clients still hold connections."""
    with ReplayServer() as player, player.cassette(recorded):
        ask(player.root_url)
        name = f"llmengine-{player.root_url.rsplit(':', 1)[1]}"
        assert name in {thread.name for thread in threading.enumerate()}
    assert name not in {thread.name for thread in threading.enumerate()}
