"""The requests of a target to servers that misbehave below HTTP."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from llmengine.mock import Fault, MockServer, Script
from pytest_llmengine.contract import Driver, Target, Unmeasured
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Fail, NoVerdict, Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, Check
from pytest_llmengine.contract.runner import run_check
from pytest_llmengine.contract.target import Reading, TargetUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "sk-0123456789abcdef"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINGER_RESET = struct.pack("ii", 1, 0)


def test_query_string_goes_with_every_request() -> None:
    """An address such as Azure's has one, and the query string of a check stays."""
    with MockServer() as server, Target(server.base_url, "mock", query="api-version=1") as target:
        target.chat()
        target.get("/models?limit=2")

    assert [(call.path, call.query) for call in server.calls] == [
        ("/v1/chat/completions", "api-version=1"),
        ("/v1/models", "limit=2&api-version=1"),
    ]


@contextmanager
def serving(handle: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """A loopback server that reads one request, passes it to `handle` and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_one() -> None:
            connection, _ = listener.accept()
            with connection:
                handle(connection, _request(connection))

        thread = threading.Thread(target=accept_one)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join()


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(h[15:]) for h in head.lower().split(b"\r\n") if h[:15] == b"content-length:"), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def saying(*parts: bytes) -> Callable[[socket.socket, bytes], None]:
    """A handler that sends these bytes, then closes."""

    def handle(connection: socket.socket, request: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    return handle


def waiting(*parts: bytes) -> Callable[[socket.socket, bytes], None]:
    """A handler that sends these bytes, then waits until the client closes."""

    def handle(connection: socket.socket, request: bytes) -> None:
        saying(*parts)(connection, request)
        connection.recv(1)

    return handle


def test_the_body_comes_as_it_was_sent() -> None:
    """A reply has status, headers and the bytes of the body, with times that never go back."""
    parts = b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"
    with serving(saying(CHUNKED, *parts)) as url, Target(url, "m") as target:
        reply = target.get("/models")
    times = [chunk.at for chunk in reply.chunks]
    assert (reply.status, reply.body, reply.cut) == (200, b"abcde", False)
    assert times == sorted(times)


def test_a_server_that_hangs_up_at_once_fails_the_check() -> None:
    """A connection that closes without any byte is a failure of the server, and is kept."""
    with serving(saying()) as url, Target(url, "m") as target:
        with pytest.raises(Fail, match="POST /chat/completions: the server closed the connection"):
            target.chat()
        assert [e.status for e in target.exchanges] == [None]


def _reset(connection: socket.socket, request: bytes) -> None:
    connection.sendall(CHUNKED + b"3\r\nabc\r\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(saying(CHUNKED + b"3\r\nabc\r\n"), id="closed"),
        pytest.param(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), id="short"),
        pytest.param(_reset, id="reset"),
    ],
)
def test_a_connection_that_breaks_in_the_body_is_a_cut(
    handle: Callable[[socket.socket, bytes], None],
) -> None:
    """A body that ends before its end is marked as cut."""
    with serving(handle) as url, Target(url, "m") as target:
        reply = target.chat()
    assert reply.cut
    assert b"abc".startswith(reply.body)


HASTY = Limits(answer=1)
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nX: "


def _dripping(first: bytes, drop: bytes) -> Callable[[socket.socket, bytes], None]:
    """A handler that sends forever, with pauses shorter than the time limit of HASTY."""

    def handle(connection: socket.socket, request: bytes) -> None:
        try:
            connection.sendall(first)
            while True:
                time.sleep(0.01)
                connection.sendall(drop)
        except OSError:
            return

    return handle


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        pytest.param(waiting(), "no answer within 1 s", id="silence"),
        pytest.param(_dripping(HALF_A_HEAD, b"x"), "no answer within 1 s", id="dripping head"),
        pytest.param(
            _dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            "no answer within 1 s",
            id="100 for ever",
        ),
        pytest.param(
            waiting(CHUNKED + b"3\r\nabc\r\n"),
            "no end of the answer within 1 s; 3 bytes came",
            id="stall",
        ),
        pytest.param(
            _dripping(CHUNKED, b"1\r\n:\r\n"),
            "no end of the answer within 1 s",
            id="dripping body",
        ),
    ],
)
def test_a_server_that_is_too_slow_gives_no_verdict(
    handle: Callable[[socket.socket, bytes], None], words: str
) -> None:
    """A slow server breaks no rule: the outcome is an error that says what did not come."""
    with serving(handle) as url, Target(url, "m", limits=HASTY) as target:
        result = run_check(_says_hello(), target, Profile("x"))
    assert (result.outcome, result.answered) == (Outcome.ERROR, False)
    assert words in result.reason
    assert len(result.exchanges) == 1


def test_a_server_that_does_not_read_gives_no_verdict() -> None:
    """A request that cannot be sent ends too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with Target(url, "m", limits=HASTY) as target, pytest.raises(NoVerdict, match="no answer"):
            target.post("/chat/completions", raw=b"x" * 50_000_000)


def test_a_check_has_one_time_for_all_of_its_requests() -> None:
    """Many answers in time do not extend the time of a check."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        result = run_check(_asking_for_ever(), target, Profile("x"), seconds=1)
    assert (result.outcome, result.answered) == (Outcome.ERROR, True)
    assert "before the 1 s of the check were over" in result.reason


def test_a_driver_has_the_time_of_its_check() -> None:
    """A client library with its own time-outs is left when the check's time is over."""
    end = threading.Event()
    check = replace(_waiting_for(end), driver=Driver)
    with Target("http://127.0.0.1:9/v1", "m") as target:
        result = run_check(check, target, Profile("x"), seconds=0.05)
    end.set()
    assert (result.outcome, result.reason) == (
        Outcome.ERROR,
        "the check took longer than its 0.05 s",
    )


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"10000\r\n" + b"x" * 0x10000 + b"\r\n", id="bytes"),
        pytest.param(b"1\r\nx\r\n" * 1000, id="chunks"),
    ],
)
def test_an_answer_without_an_end_fails_the_check(piece: bytes) -> None:
    """The bytes and chunks that a check reads are limited."""

    def handle(connection: socket.socket, request: bytes) -> None:
        try:
            connection.sendall(CHUNKED)
            while True:
                connection.sendall(piece)
        except OSError:
            return

    with serving(handle) as url, Target(url, "m") as target:
        with pytest.raises(Fail, match=r"no end of the answer; \d+ bytes in \d+ chunks"):
            target.chat()
        (exchange,) = target.exchanges
    assert 0 < len(exchange.response_body) <= 17_000_000


def test_an_address_without_a_server_gives_no_verdict() -> None:
    """If no server answers, a check ends as an error, never as a failure of the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with Target(url, "m") as target:
        with pytest.raises(TargetUnreachable, match=url):
            target.chat()
        result = run_check(_says_hello(), target, Profile("x"))
    assert (result.outcome, result.failed) == (Outcome.ERROR, True)


def _asking_for_ever() -> Check:
    def run(target: Target) -> None:
        while True:
            target.get("/models")

    return Check("x.y", run, QUIRK, EXTENDED, "test")


def _waiting_for(end: threading.Event) -> Check:
    def run(target: Target) -> None:
        end.wait()

    return Check("x.y", run, QUIRK, EXTENDED, "test")


def _says_hello() -> Check:
    def run(target: Target) -> None:
        target.chat(f"My key is {KEY}.").success()

    return Check("x.y", run, QUIRK, EXTENDED, "test")


def _echo(connection: socket.socket, request: bytes) -> None:
    authorization = next(h for h in request.split(b"\r\n") if h.startswith(b"Authorization"))
    head = b"HTTP/1.1 401 Unauthorized\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n"
    body = b'{"error": {"message": "%s"}}' % authorization
    connection.sendall(head % (authorization, len(body)) + body)


def test_the_key_is_sent_and_kept_out_of_all_that_is_reported() -> None:
    """A key that the server repeats is neither in the exchange nor in the reason."""
    seen = []

    def handle(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        _echo(connection, request)

    with serving(handle) as url, Target(url, "m", api_key=KEY) as target:
        result = run_check(_says_hello(), target, Profile("x"))
    assert f"Authorization: Bearer {KEY}".encode() in seen[0]
    assert "401" in result.reason
    assert KEY not in f"{result.reason} {result.exchanges}"


def test_an_empty_header_is_left_out() -> None:
    """A header of "" removes the key."""
    seen = []

    def handle(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        connection.sendall(OK)

    with serving(handle) as url, Target(url, "m", api_key=KEY) as target:
        target.get("/models", headers={"Authorization": ""})
    assert b"authorization" not in seen[0].lower()


def test_a_redirect_is_not_followed() -> None:
    """A redirect is a reply like any other, so no key is sent to another host."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving(saying(moved)) as url, Target(url, "m", api_key=KEY) as target:
        assert target.get("/models").status == 302


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target connects directly, for any proxy in the environment."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    with serving(saying(OK)) as url, Target(url, "m") as target:
        assert target.get("/models").status == 200


def test_a_parameter_of_three_dots_is_left_out() -> None:
    """A chat has defaults, and `...` removes one from the body."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        target.chat("Hi", temperature=..., max_tokens=3)
    assert server.calls[0].json == {
        "model": "mock",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 3,
    }


def test_every_request_has_its_own_connection_unless_kept_alive() -> None:
    """Two requests use two connections, and one within `kept_alive`."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        apart = {target.get("/models").port for _ in range(2)}
        with target.kept_alive():
            together = {target.get("/models").port for _ in range(2)}
    assert (len(apart), len(together)) == (2, 1)


def test_begin_forgets_the_last_check() -> None:
    """The exchanges are those since the last `begin`."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        target.get("/models")
        target.begin()
        target.get("/models/mock")
        assert [(e.method, e.path, e.status) for e in target.exchanges] == [
            ("GET", "/models/mock", 200)
        ]


def test_without_a_clock_timing_is_unmeasured() -> None:
    """A check of arrival times ends as unmeasured if times have no meaning."""
    with Target("http://127.0.0.1:9/v1", "m", clock=False) as target, pytest.raises(Unmeasured):
        target.need_clock()


@pytest.mark.parametrize(
    ("retry_after", "pauses", "status"), [(3, [3.0], 200), (None, [], 429), (3600, [], 429)]
)
def test_a_429_is_waited_out_once(
    retry_after: float | None, pauses: list[float], status: int
) -> None:
    """A Retry-After of up to a minute is waited out once; without one the 429 is the answer."""
    waited: list[float] = []
    with MockServer() as server, Target(server.base_url, "mock", sleep=waited.append) as target:
        server.play(Script(faults=[Fault(status=429, retry_after=retry_after)]))
        target.begin()
        assert target.chat(max_tokens=1).status == status
    assert waited == pauses


def test_no_verdict_while_the_server_hangs() -> None:
    """After a time-out, checks have no verdict until the server answers again."""
    limits = Limits(answer=0.2)
    hang = Fault(delay=0.5)
    with MockServer() as server, Target(server.base_url, "mock", limits=limits) as target:
        server.play(Script(faults=[hang, hang]))
        results = [run_check(_says_hello(), target, Profile("x")) for _ in range(3)]
    assert [r.outcome for r in results] == [Outcome.ERROR, Outcome.ERROR, Outcome.PASS]
    assert "has not answered since POST /chat/completions" in results[1].reason


def test_a_client_may_leave_after_some_chunks() -> None:
    """The connection is closed after so many chunks, and the reply holds what had come."""
    closed = []

    def handle(connection: socket.socket, request: bytes) -> None:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        closed.append(connection.recv(1))

    with serving(handle) as url, Target(url, "m") as target:
        reply = target.post("/chat/completions", {}, reading=Reading(chunks=1))
        assert (reply.left, reply.cut, reply.body) == (True, False, b"abc")
        assert target.answered is False
    assert closed == [b""]


@pytest.mark.parametrize("sent", [b"", CHUNKED + b"3\r\nabc\r\n"], ids=["silence", "half"])
def test_a_client_may_leave_after_some_time(sent: bytes) -> None:
    """The connection is closed after the seconds; the status is 0 if none had come."""
    with serving(waiting(sent)) as url, Target(url, "m") as target:
        reply = target.post("/chat/completions", {}, reading=Reading(seconds=0.05))
        assert (reply.left, reply.status) == (True, 200 if sent else 0)
        assert [e.status for e in target.exchanges] == [200 if sent else None]


def test_a_client_that_leaves_later_than_the_limit_gives_no_verdict() -> None:
    """The limit of an answer is for clients that would wait longer too."""
    with (
        serving(waiting()) as url,
        Target(url, "m", limits=HASTY) as target,
        pytest.raises(NoVerdict, match="no answer within 1 s"),
    ):
        target.post("/chat/completions", {}, reading=Reading(seconds=30))


def test_a_slow_reader_is_called_after_each_chunk() -> None:
    """The client reads on when its function returns."""
    called = []
    parts = b"3\r\nabc\r\n", b"0\r\n\r\n"
    with serving(saying(CHUNKED, *parts)) as url, Target(url, "m") as target:
        reading = Reading(after_chunk=lambda: called.append("chunk"))
        assert target.post("/chat/completions", {}, reading=reading).body == b"abc"
    assert called == ["chunk"]


def test_only_some_exchanges_are_kept() -> None:
    """The exchanges of the named replies are kept first, then the earliest ones, in their order."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        replies = [target.get(f"/models?number={number}") for number in range(6)]
        target.keep_exchanges([replies[5], replies[3]], most=3)
        assert [e.path[-1] for e in target.exchanges] == ["0", "3", "5"]
        target.keep_exchanges([replies[4]], most=9)  # it is gone
        assert len(target.exchanges) == 3


def test_a_path_may_be_under_the_root() -> None:
    """Some servers have routes beside those of OpenAI's API."""
    with MockServer() as server, Target(server.base_url, "mock") as target:
        assert target.get("/health", root=True).ok
        assert (
            target.post("/tokenize", {"model": "mock", "prompt": "Hi"}, root=True).json()["count"]
            == 1
        )


def test_exchange_has_what_is_special_about_its_request() -> None:
    """Headers of this request alone, without the key, and whether its path is under the root."""
    with MockServer() as server:
        target = Target(server.base_url, "mock", api_key="sk-of-this-test")
        target.chat()
        target.post("/chat/completions", {}, headers={"Content-Type": "text/plain"})
        target.get("/models", headers={"X-Api-Key": "sk-of-this-test", "Authorization": ""})
        target.get("/health", root=True)
    assert [(e.request_headers, e.root) for e in target.exchanges] == [
        ({}, False),
        ({"Content-Type": "text/plain"}, False),
        ({"X-Api-Key": "[redacted]", "Authorization": ""}, False),
        ({}, True),
    ]
