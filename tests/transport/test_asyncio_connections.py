"""The connections of the transport over asyncio's sockets: kept, closed, shared and timed out."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from llmengine import APIConnectionError, APITimeoutError
from llmengine.transport.asyncio_transport import AsyncioTransport
from llmengine.transport.base import HTTPRequest

from .stream_server import OK, Server, answers, head, read_request, transport, until


def test_connection_is_used_again() -> None:
    """One after another over one connection, also after a stream that was read to its end."""

    async def ask() -> None:
        async with Server(answers(OK)) as server, transport() as client:
            for _ in range(3):
                await client.fetch(server.request())
                async with client.stream(server.request()) as answer:
                    assert [piece async for piece in answer.chunks] == [b"ok"]
                with pytest.raises(RuntimeError, match="is closed"):
                    await anext(answer.chunks)
            assert server.connections == 1

    asyncio.run(ask())


def test_free_connection_is_closed_after_a_while(moved_loop: Any) -> None:
    """The server would close it a second later."""

    async def ask(loop: Any) -> None:
        async with Server(answers(OK)) as server, transport() as client:
            await client.fetch(server.request())
            loop.advance(3)
            await client.fetch(server.request())
            assert server.connections == 1
            loop.advance(5)
            await until(lambda: server.open == 0)
            await client.fetch(server.request())
            assert server.connections == 2

    moved_loop(ask)


@pytest.mark.parametrize(
    "last", [b"", b"\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 2"], ids=["end", "answer", "part"]
)
def test_connection_that_the_server_ends_is_not_used(last: bytes) -> None:
    """Nor one on which something came that nobody asked for."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await go_on.wait()
        writer.write(last)
        if last:
            await reader.read()

    async def ask() -> None:
        nonlocal go_on
        go_on = asyncio.Event()
        async with Server(end) as server, transport() as client:
            await client.fetch(server.request())
            go_on.set()
            await until(lambda: server.open == 0)
            assert (await client.fetch(server.request())).body == b"ok"
            assert server.connections == 2

    go_on: asyncio.Event
    asyncio.run(ask())


@pytest.mark.parametrize("begin", [b"", OK[:20], OK[:-1]], ids=["nothing", "head", "body"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_cancelled_request_closes_its_connection(begin: bytes, streamed: bool) -> None:
    """The next request gets another connection, and not the rest of that answer."""
    begun = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if server.connections == 1:
            writer.write(begin)
            begun.set()
            await reader.read()
        writer.write(OK)

    async def once(client: AsyncioTransport) -> bytes:
        if not streamed:
            return (await client.fetch(server.request())).body
        async with client.stream(server.request()) as answer:
            return b"".join([piece async for piece in answer.chunks])

    async def ask() -> None:
        async with server, transport() as client:
            first = asyncio.create_task(once(client))
            await begun.wait()
            await asyncio.sleep(0.01)  # usually, what was sent has arrived
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await until(lambda: server.open == 0)
            assert await once(client) == b"ok"
            assert server.connections == 2

    server = Server(stall)
    asyncio.run(ask())


def test_close_ends_requests() -> None:
    """A request that waits fails, and no connection is left."""

    async def ask() -> None:
        async with Server(answers()) as server:
            client = AsyncioTransport()
            waiting = asyncio.create_task(client.fetch(server.request()))
            await until(lambda: server.open == 1)
            await client.aclose()
            with pytest.raises(APIConnectionError):
                await waiting
            await until(lambda: server.open == 0)

    asyncio.run(ask())


# ---- addresses


class NamesLoop(asyncio.SelectorEventLoop):
    """An event loop on which any name has three addresses, of which one has a server."""

    lookups = 0

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Count, and give the addresses."""
        self.lookups += 1
        await asyncio.sleep(0)
        found = []
        for address in ("127.0.0.9", "127.0.0.8", "127.0.0.1"):
            found += await super().getaddrinfo(address, port, **options)
        return found


def test_names_are_looked_up_once_and_every_address_is_tried() -> None:
    """A hundred connections need one lookup, and refused addresses are passed over."""

    async def ask(loop: NamesLoop) -> None:
        async with Server(answers(OK)) as server, transport() as client:
            request = server.request(host="model.invalid")
            replies = await asyncio.gather(*(client.fetch(request) for _ in range(100)))
            assert [reply.body for reply in replies] == [b"ok"] * 100
            assert server.connections == 100
            assert loop.lookups == 1

    with asyncio.Runner(loop_factory=NamesLoop) as runner:
        runner.run(ask(runner.get_loop()))  # type: ignore[arg-type]


def test_unknown_name_is_an_error_for_each_request() -> None:
    """Each of them names the address."""

    async def ask() -> None:
        async with transport() as client:
            request = HTTPRequest("http://no-such-host.invalid/", {}, b"", 30, 60)
            found = await asyncio.gather(
                *(client.fetch(request) for _ in range(3)), return_exceptions=True
            )
        assert [type(error) for error in found] == [APIConnectionError] * 3
        assert "cannot connect to http://no-such-host.invalid/: " in str(found[0])

    asyncio.run(ask())


# ---- TLS


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> ssl.SSLContext:
    """The context of a server for 127.0.0.1, whose authority is named by SSL_CERT_FILE."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_certificate_is_checked(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its authority must be known, and the host must be its own."""

    async def ask() -> None:
        async with Server(answers(OK), ssl=tls) as server:
            async with transport() as client:
                assert (await client.fetch(server.request(scheme="https"))).body == b"ok"
                with pytest.raises(APIConnectionError, match="Hostname mismatch"):
                    await client.fetch(server.request(scheme="https", host="localhost"))
            monkeypatch.delenv("SSL_CERT_FILE")
            async with transport() as client:
                with pytest.raises(APIConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.fetch(server.request(scheme="https"))

    asyncio.run(ask())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_answers_that_arrive_together_are_not_mixed_up(tls: ssl.SSLContext, scheme: str) -> None:
    """All connections share one buffer for what they receive."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            writer.write(head(b"Content-Length: 1000000"))
            for _ in range(100):
                writer.write(body * 100)
                await writer.drain()
                await asyncio.sleep(0)

    async def streamed(client: AsyncioTransport, request: HTTPRequest) -> bytes:
        async with client.stream(request) as answer:
            return b"".join([piece async for piece in answer.chunks])

    async def ask() -> None:
        options = {"ssl": tls} if scheme == "https" else {}
        async with Server(repeat, **options) as server, transport() as client:
            bodies = [bytes([65 + n]) * 100 for n in range(8)]
            requests = [server.request(scheme=scheme, body=body) for body in bodies]
            whole = [client.fetch(request) for request in requests]
            replies, streams = await asyncio.gather(
                asyncio.gather(*whole), asyncio.gather(*(streamed(client, r) for r in requests))
            )
            assert [reply.body for reply in replies] == [body * 10_000 for body in bodies]
            assert streams == [body * 10_000 for body in bodies]

    asyncio.run(ask())


# ---- clocks


def test_each_request_has_its_own_total_clock(tls: ssl.SSLContext, moved_loop: Any) -> None:
    """Also one that needed time to connect while later ones were sent."""

    async def ask(loop: Any) -> None:
        greet = asyncio.Event()

        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await greet.wait()
            await writer.start_tls(tls)
            await reader.read()

        async with Server(late) as slow, Server(answers()) as silent, transport() as client:
            first = asyncio.create_task(client.fetch(slow.request(scheme="https", total=20)))
            await until(lambda: slow.open == 1)
            loop.advance(5)
            second = asyncio.create_task(client.fetch(silent.request(total=20)))
            await until(lambda: silent.open == 1)
            greet.set()
            loop.advance(10)
            third = asyncio.create_task(client.fetch(silent.request(total=20)))
            await until(lambda: silent.open == 2)
            for task, seconds in ((first, 6), (second, 5), (third, 10)):
                assert not task.done()
                loop.advance(seconds)
                with pytest.raises(APITimeoutError, match="within 20 s"):
                    await task
            await until(lambda: silent.open == 0)

    moved_loop(ask)
