"""The transport over asyncio's sockets: what is not tested for all transports alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import AnswerLimits, APIConnectionError, UnexpectedResponseError
from llmengine.transport.base import feed
from llmengine.types.secrets import Secret

from .stream_server import OK, Server, answers, head, read_request, transport, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHUNKED = head(b"Transfer-Encoding: chunked")
SWITCH = b"101 Switching Protocols"
KEY = "sk-key-of-the-asyncio-transport"


# ---- answers


@pytest.mark.parametrize(
    ("parts", "status", "body"),
    [
        ([head(b"A: b", status=b"100 Continue"), OK], 200, b"ok"),
        ([head(b"Upgrade: x", b"Connection: upgrade", status=SWITCH) + b"\0\1"], 101, b""),
        ([head(b"Upgrade: x", status=SWITCH)], 101, b""),
        ([head(status=b"204 No Content")], 204, b""),
        ([head(b"Content-Length: 9", status=b"304 Not Modified")], 304, b""),
        ([OK[:9], OK[9:25], OK[25:-1], OK[-1:]], 200, b"ok"),
        ([b"HTTP/1.1 200 OK\nContent-Length : 2\n\nok"], 200, b"ok"),
        ([CHUNKED + b"2 \r\nok\r\n0\r\n\r\n"], 200, b"ok"),
    ],
)
def test_answers_are_read(parts: list[bytes], status: int, body: bytes) -> None:
    """Answers without a body, in pieces, after others, and with harmless mistakes."""

    async def ask() -> None:
        async with Server(answers(*parts)) as server, transport() as client:
            for _ in range(2):
                reply = await client.fetch(server.request())
                assert (reply.status, reply.body) == (status, body)

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK[:17], b"X-Header: " + b"x" * 70_000),
        (OK[:17], b"X: y\r\n" * 200),
        (CHUNKED + b"2\r\nok\r\n0\r\n", b"X: " + b"x" * 5000),
        (CHUNKED, b"2;" + b"x" * 5000),
        (b"", head(status=b"100 Continue") * 100),
    ],
    ids=["header", "headers", "trailer", "chunk-extension", "continue"],
)
def test_nothing_around_a_body_is_read_without_end(begin: bytes, more: bytes) -> None:
    """The parser has no limits of its own; the connection is closed."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(begin)
        for _ in range(10_000):
            writer.write(more)
            await writer.drain()

    async def ask() -> None:
        async with Server(flood) as server, transport() as client:
            with pytest.raises(APIConnectionError, match="is not valid HTTP"):
                await client.fetch(server.request())
            await until(lambda: server.open == 0)

    asyncio.run(ask())


def test_headers_are_found_in_any_case() -> None:
    """Of two with the same name, the first counts; other bytes than UTF-8 are kept."""
    fields = b"X-Name: caf\xe9", b"X-NAME: b", b"Retry-After: 3", b"Content-Length: 0"

    async def ask() -> Any:
        async with Server(answers(head(*fields))) as server, transport() as client:
            return (await client.fetch(server.request())).headers

    headers = asyncio.run(ask())

    assert headers["X-name"] == "caf\udce9"
    assert headers.get("RETRY-AFTER") == "3"
    assert dict(headers).keys() == {"x-name", "retry-after", "content-length"}


# ---- requests


def test_own_headers_replace_those_of_the_transport() -> None:
    """The length is always that of the body, and a path is encoded."""
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await read_request(reader))[0])
            writer.write(OK)

    async def ask() -> None:
        own = {"HOST": "other", "accept-encoding": "gzip", "Content-Length": "7", "X-A": "é"}
        async with Server(keep) as server, transport() as client:
            await client.fetch(server.request("/a b?q=ü#part", headers=own))
            await client.fetch(server.request("/a b?q=ü#part", headers={"X-A": "2"}))
            await client.fetch(server.request(body=b"", method="GET"))

    asyncio.run(ask())

    first, second, get = heads
    assert first.decode().split("\r\n") == [
        "POST /a%20b?q=%C3%BC HTTP/1.1",
        "HOST: other",
        "Accept: */*",
        "accept-encoding: gzip",
        "X-A: é",
        "Content-Length: 2",
        "",
        "",
    ]
    assert b"Host: 127.0.0.1:" in second
    assert b"X-A: 2\r\nContent-Length: 2\r\n" in second
    assert get.startswith(b"GET / HTTP/1.1\r\n")
    assert b"Content-Length" not in get


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\0b"])
def test_header_cannot_begin_another_one(value: str) -> None:
    """Nothing is sent, and the value is not shown."""

    async def ask() -> None:
        async with Server(answers(OK)) as server, transport() as client:
            with pytest.raises(APIConnectionError, match="holds a line break") as caught:
                await client.fetch(server.request(headers={"X-Mine": value}))
            assert "X-Other" not in str(caught.value)
            assert server.connections == 0

    asyncio.run(ask())


def test_early_answer_to_a_large_request_ends_its_connection() -> None:
    """The rest of the request is not sent before the next one."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await reader.read()

    async def ask() -> None:
        async with Server(refuse) as server, transport() as client:
            for _ in range(2):
                await client.fetch(server.request(body=bytes(2**25)))
            assert server.connections == 2

    asyncio.run(ask())


def test_no_object_shows_a_key() -> None:
    """Neither the transport nor what it keeps."""

    async def ask() -> None:
        async with Server(answers(OK)) as server, transport() as client:
            request = server.request(f"/?key={KEY}", headers={"Authorization": Secret(KEY)})
            request.url = Secret(request.url)
            await client.fetch(request)
            seen: list[object] = [client]
            for thing in seen:
                assert KEY not in repr(thing)
                inner = list(getattr(thing, "__dict__", {}).values())
                inner += list(thing.values()) if isinstance(thing, dict) else []
                seen += [one for one in inner if one not in seen]
            assert len(seen) > 9

    asyncio.run(ask())


# ---- streams


def test_server_waits_for_a_slow_reader() -> None:
    """Only a bounded part of a stream is read ahead, and all of it in the end."""
    sent, size = 0, 2**26

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(head(b"Content-Length: %d" % size))
        while sent < size:
            writer.write(bytes(2**16))
            await writer.drain()
            sent += 2**16
        await reader.read()

    async def ask() -> None:
        limits = AnswerLimits(wire_bytes=None, body_bytes=None)
        async with Server(flood) as server, transport() as client:
            async with client.stream(server.request(limits=limits)) as answer:
                read = len(await anext(answer.chunks))
                for _ in range(3000):
                    await asyncio.sleep(0)
                assert sent < size / 2
                async for piece in answer.chunks:
                    assert len(piece) <= 2**16
                    read += len(piece)
            assert read == size

    asyncio.run(ask())


def test_part_that_came_before_an_error_is_read() -> None:
    """The error follows it, also if the reader was late."""
    part = head(b"Content-Length: 9") + b"part"

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(part)

    async def ask() -> None:
        async with (
            Server(drop) as server,
            transport() as client,
            client.stream(server.request()) as answer,
        ):
            await until(lambda: server.open == 0)
            await asyncio.sleep(0.01)
            assert await anext(answer.chunks) == b"part"
            with pytest.raises(APIConnectionError, match="in the middle of the body"):
                await anext(answer.chunks)

    asyncio.run(ask())


# ---- streams whose pieces are passed on


def test_pieces_are_passed_on_until_there_are_enough() -> None:
    """Nothing more is passed on then, a bounded part is read ahead, and nothing is lost."""
    sent, size, block = 0, 2**25, bytes(range(251)) * 256

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(head(b"Content-Length: %d" % size))
        while sent < size:
            writer.write(block[: size - sent])
            await writer.drain()
            sent += len(block)
        await reader.read()

    async def ask() -> None:
        pieces, read = [], 0

        def take(piece: bytes) -> bool:
            nonlocal read
            assert (piece[0], len(piece) <= 2**16) == (read % 251, True)
            read += len(piece)
            pieces.append(piece)
            return len(pieces) % 3 > 0

        async with (
            Server(flood) as server,
            transport() as client,
            client.stream(server.request()) as answer,
        ):
            assert not await feed(answer.chunks, take)
            for _ in range(3000):
                await asyncio.sleep(0)
            assert len(pieces) == 3
            assert sent < size / 2
            while not await feed(answer.chunks, take):
                assert len(pieces) % 3 == 0
        assert read == size

    asyncio.run(ask())


def test_bytes_that_come_with_invalid_ones_are_not_passed_on() -> None:
    """A chunk that seems valid may be a part of what is not."""
    more = asyncio.Event()
    pieces: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head(b"Transfer-Encoding: chunked"))
        await more.wait()
        writer.write(b"3\r\nbad\r\nno size\r\n")

    def take(piece: bytes) -> bool:
        pieces.append(piece)
        return True

    async def ask() -> None:
        async with (
            Server(answer) as server,
            transport() as client,
            client.stream(server.request()) as reply,
        ):
            more.set()
            await until(lambda: server.open == 0)
            with pytest.raises(APIConnectionError, match="HTTP"):
                await feed(reply.chunks, take)

    asyncio.run(ask())
    assert pieces == []


def test_error_follows_the_pieces_that_came_before_it() -> None:
    """Whether the connection breaks before or while they are passed on."""
    more = asyncio.Event()

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head(b"Content-Length: 9") + b"a")
        await more.wait()
        writer.write(b"b")

    async def ask(*, late: bool) -> None:
        pieces: list[bytes] = []

        def take(piece: bytes) -> bool:
            pieces.append(piece)
            more.set()
            return True

        more.clear()
        async with (
            Server(drop) as server,
            transport() as client,
            client.stream(server.request()) as answer,
        ):
            if late:
                more.set()
                await until(lambda: server.open == 0)
            with pytest.raises(APIConnectionError, match="in the middle of the body"):
                await feed(answer.chunks, take)
        assert b"".join(pieces) == b"ab"

    async def both() -> None:
        await ask(late=True)
        await ask(late=False)

    asyncio.run(both())


def test_error_of_the_one_that_takes_the_pieces_is_raised() -> None:
    """Also if it happens while bytes are received; no piece follows, and the connection ends."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head(b"Content-Length: 9999"))
        while not writer.is_closing():
            writer.write(b"a")
            await asyncio.sleep(0.001)
        await reader.read()

    async def ask() -> None:
        pieces: list[bytes] = []

        def take(piece: bytes) -> bool:
            pieces.append(piece)
            if len(pieces) == 3:
                raise UnexpectedResponseError("that is not an event")
            return True

        async with Server(endless) as server, transport() as client:
            with pytest.raises(UnexpectedResponseError, match="not an event"):
                async with client.stream(server.request()) as answer:
                    await feed(answer.chunks, take)
            assert len(pieces) == 3
            await until(lambda: server.open == 0)

    asyncio.run(ask())


def test_pieces_of_any_transport_are_passed_on() -> None:
    """Such as those of an own transport, which only has an iterator."""

    async def ask() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d" % number

        pieces: list[bytes] = []
        body = chunks()
        ends = [await feed(body, lambda piece: pieces.append(piece) or piece != b"2") for _ in "ab"]
        assert ends == [False, True]
        assert b"".join(pieces) == b"01234"

    asyncio.run(ask())
