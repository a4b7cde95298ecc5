"""The network guard allows only loopback."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer
from pytest_llmengine.recording.network import (
    Guard,
    NetworkRefusedError,
    guarded,
    install,
    uninstall,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, Whole

ELSEWHERE = "192.0.2.1"  # TEST-NET-1 of RFC 5737: no server is there if the guard fails


@pytest.fixture
def guard() -> Iterator[Guard]:
    """The guard, for one test."""
    with guarded() as guard:
        yield guard


def _udp(host: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (host, 9))


def _tcp(host: str, how: str = "connect") -> None:
    with socket.socket() as sock:
        sock.settimeout(0.01)
        getattr(sock, how)((host, 9))


def _asyncio(host: str) -> None:
    asyncio.run(asyncio.open_connection(host, 9))


@pytest.mark.parametrize(
    "call",
    [
        lambda: _tcp(ELSEWHERE),
        lambda: _tcp(ELSEWHERE, "connect_ex"),
        lambda: _udp(ELSEWHERE),
        lambda: socket.create_connection(("example.invalid", 80)),
        lambda: socket.getaddrinfo("example.invalid", 80),
        lambda: socket.gethostbyname("example.invalid"),
        lambda: socket.gethostbyname_ex("example.invalid"),
        lambda: socket.gethostbyaddr(ELSEWHERE),
        lambda: socket.getnameinfo((ELSEWHERE, 80), 0),
        lambda: _asyncio(ELSEWHERE),
        lambda: _asyncio("example.invalid"),
    ],
)
def test_every_way_out_is_refused(guard: Guard, call: Callable[[], Any]) -> None:
    """Connections, datagrams and lookups, blocking or not, raise and are noted."""
    with pytest.raises(NetworkRefusedError, match=r"refused.*base_url"):
        call()
    assert len(guard.refused) == 1


def test_clients_pass_the_words_on(guard: Guard) -> None:
    """The error of a client has the message of the guard."""
    with pytest.raises(httpx.ConnectError, match=r"lookup of example\.invalid was refused"):
        httpx.get("http://example.invalid", trust_env=False)
    with pytest.raises(OSError, match=r"lookup of example\.invalid was refused"):
        urllib.request.urlopen("http://example.invalid")

    async def by_aiohttp() -> None:
        async with aiohttp.ClientSession() as session:
            await session.get(f"http://{ELSEWHERE}")

    with pytest.raises(aiohttp.ClientConnectorError, match=f"connection to {ELSEWHERE} was ref"):
        asyncio.run(by_aiohttp())
    assert len(guard.refused) == 3


def test_loopback_works_as_before(
    guard: Guard, upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """Recorder, replayer, threads, asyncio and aiohttp work with the guard."""
    upstream.will_send(whole(b"hello"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        assert ask(recorder.root_url).text == "hello"

    async def by_aiohttp(url: str) -> str:
        async with aiohttp.ClientSession() as session, session.post(url, json={"n": 1}) as answer:
            return await answer.text()

    with ReplayServer() as player, player.cassette(path):
        url = player.root_url.replace("127.0.0.1", "localhost") + "/v1/chat"
        assert asyncio.run(by_aiohttp(url)) == "hello"
    assert guard.refused == []


@pytest.mark.parametrize("host", ["::1", "::ffff:127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0"])
def test_every_name_of_this_machine_is_allowed(guard: Guard, host: str) -> None:
    """Loopback has many spellings."""
    socket.getaddrinfo(host, 80)
    assert guard.refused == []


def test_unix_sockets_are_allowed(guard: Guard, tmp_path: Path) -> None:
    """They do not leave the machine."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        client.connect(str(tmp_path / "socket"))
    assert guard.refused == []


def test_a_host_can_be_allowed() -> None:
    """For example a database in a container."""
    with guarded(allow=["192.0.2.7"]) as guard:
        _udp_or_no_route("192.0.2.7")
        with pytest.raises(NetworkRefusedError):
            _udp("192.0.2.8")
    assert guard.refused == ["a datagram to 192.0.2.8"]


def _udp_or_no_route(host: str) -> None:
    try:
        _udp(host)
    except NetworkRefusedError:
        raise
    except OSError:
        pass  # without a network the system refuses, not the guard


def test_uninstall_allows_everything_again() -> None:
    """Each install needs its own uninstall; a second install is an error."""
    guard = install()
    try:
        with pytest.raises(RuntimeError, match="already"):
            install()
    finally:
        uninstall()
    _udp_or_no_route(ELSEWHERE)
    assert guard.refused == []
