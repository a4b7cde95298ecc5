"""The transport over asyncio's own sockets, with httptools as the parser.

It costs a fraction of aiohttp's CPU time per request; ``BENCHMARK.md`` has the ratios.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from yarl import URL

from llmengine.transport.base import HTTPReply, HTTPStream, PushedChunks
from llmengine.transport.connection_pool import ConnectionPool, Origin
from llmengine.transport.decompression import ACCEPT_ENCODING, PIECE, unpacked
from llmengine.transport.errors import ClientErrors
from llmengine.transport.http1_connection import HTTP1Error, InvalidHTTPError, RawHeaders
from llmengine.transport.logs import scrub_logs
from llmengine.transport.proxies import EnvironmentProxies

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmengine.transport.answer_limits import AnswerLimits
    from llmengine.transport.base import HTTPRequest, Sink, Transport
    from llmengine.transport.http1_connection import HTTP1Connection

_MAX_HEADS = 64  # one per URL; an engine uses one or two


class ConnectError(Exception):
    """There is no connection to the server; ``os_error`` says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.os_error = error


class ConnectTimeoutError(Exception):
    """There was no connection within the connect clock."""


_ERRORS = ClientErrors(
    connect_timeout=ConnectTimeoutError,
    unconnected=ConnectError,
    unreadable=InvalidHTTPError,
)
# OSError includes TimeoutError, which means that the total clock ran out.
_FAILURES = (HTTP1Error, ConnectError, ConnectTimeoutError, OSError)


class AsyncioTransport:
    """Sends requests through a pool of connections; it must be created on the loop that uses it.

    Requests that go through a proxy of the environment are sent by an AiohttpTransport.
    """

    def __init__(self) -> None:
        scrub_logs()
        self._loop = asyncio.get_running_loop()
        self._pool = ConnectionPool()
        self._heads: dict[tuple[str, str], _Head] = {}
        self._clocks: dict[float, _TotalClock] = {}
        self._proxies = EnvironmentProxies()
        self._through_proxies: Transport | None = None

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        if self._proxies.exist and (other := self._transport_for_proxy(request)) is not None:
            return await other.fetch(request)
        total = request.total
        end = None if total is None else self._loop.time() + total
        try:
            head = self._head(request)
            connection = self._pool.take(head.origin) or await self._connect(head, request, end)
            try:
                answered = connection.send(head, request.body, request.limits, whole=True)
                if total is None or end is None:
                    await answered
                else:
                    clock = self._clocks.get(total) or self._new_clock(total)
                    clock.start(answered, end)
                    try:
                        await answered
                    finally:
                        clock.stop(answered)
            except BaseException:
                connection.abort()
                raise
            status, fields, encoding = connection.status, connection.fields, connection.encoding
            body = connection.take_body()
            self._pool.give_back(connection)
            if encoding:
                async with asyncio.timeout_at(end):
                    body = await _unpacked_body(body, encoding, request.limits)
        except _FAILURES as error:
            raise _ERRORS.as_ours(error, request) from error
        return HTTPReply(status, RawHeaders(fields), body)

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Send the request; only the connect clock is checked here, the reader checks the rest."""
        if self._proxies.exist and (other := self._transport_for_proxy(request)) is not None:
            async with other.stream(request) as answer:
                yield answer
            return
        connection: HTTP1Connection | None = None
        try:
            try:
                head = self._head(request)
                connection = self._pool.take(head.origin) or await self._connect(
                    head, request, None
                )
                await connection.send(head, request.body, request.limits, whole=False)
            except _FAILURES as error:
                raise _ERRORS.as_ours(error, request) from error
            body = _Chunks(connection, request)
            chunks: AsyncIterator[bytes] = body
            if connection.encoding:
                chunks = unpacked(body, connection.encoding, request.limits)
            try:
                yield HTTPStream(connection.status, RawHeaders(connection.fields), chunks)
            finally:
                body.is_closed = True
        finally:
            if connection is not None:
                self._pool.give_back(connection)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()
        if self._through_proxies is not None:
            await self._through_proxies.aclose()

    async def _connect(
        self, head: _Head, request: HTTPRequest, end: float | None
    ) -> HTTP1Connection:
        """A new connection to the server, within the connect clock and until the time `end`."""
        try:
            async with asyncio.timeout_at(end), asyncio.timeout(request.connect) as clock:
                return await self._pool.connect(head.origin)
        except TimeoutError as error:
            if clock.expired():
                raise ConnectTimeoutError from error
            if error.errno is None:  # the total clock; a time-out of the system has a number
                raise
            raise ConnectError(error) from error
        except OSError as error:
            raise ConnectError(error) from error

    def _head(self, request: HTTPRequest) -> _Head:
        """The head of the request, which is made once for all requests that are alike."""
        key = (request.url, request.method)
        head = self._heads.get(key)
        if head is None or head.headers != request.headers:
            try:
                head = _Head(request)
            except ValueError as error:
                raise ConnectError(error) from error
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[key] = head
        return head

    def _new_clock(self, total: float) -> _TotalClock:
        clock = self._clocks[total] = _TotalClock()
        return clock

    def _transport_for_proxy(self, request: HTTPRequest) -> Transport | None:
        """The transport that can use a proxy, if the environment has one for this request."""
        if self._proxies.proxy_for(request.url) is None:
            return None
        if self._through_proxies is None:
            from llmengine.transport.aiohttp_transport import (  # noqa: PLC0415 - rarely used
                AiohttpTransport,
            )

            self._through_proxies = AiohttpTransport()
        return self._through_proxies


class _Head:
    """The request line and the headers of all requests to one URL with the same headers.

    It holds keys, and therefore has no repr that shows them. ``headers`` are those that it was made
    from.
    """

    __slots__ = ("_data", "_is_post", "headers", "origin")

    def __init__(self, request: HTTPRequest) -> None:
        url = URL(request.url)
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise ValueError("it is not the address of an HTTP server")
        self.headers = dict(request.headers)
        self.origin = Origin(url.scheme == "https", url.raw_host, url.port or 0)
        lines = {
            "host": ("Host", url.host_port_subcomponent or ""),
            "accept": ("Accept", "*/*"),
            "accept-encoding": ("Accept-Encoding", ACCEPT_ENCODING),
        }
        lines |= {name.lower(): (name, value) for name, value in request.headers.items()}
        for own in ("content-length", "transfer-encoding"):
            lines.pop(own, None)
        if any(sign in part for line in lines.values() for part in line for sign in "\r\n\0"):
            raise ValueError("a header of the request holds a line break or a NUL")
        head = f"{request.method} {url.raw_path_qs} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.values())
        self._data = head.encode()
        self._is_post = request.method == "POST"

    def for_body(self, length: int) -> bytes:
        """The bytes before a body of that length."""
        if length or self._is_post:
            return b"%bContent-Length: %d\r\n\r\n" % (self._data, length)
        return self._data + b"\r\n"


class _Chunks(PushedChunks):
    """The body of a stream, as it arrives."""

    __slots__ = ("_connection", "_request", "is_closed")

    def __init__(self, connection: HTTP1Connection, request: HTTPRequest) -> None:
        self.is_closed = False
        self._connection = connection
        self._request = request

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        self._refuse_if_closed()
        try:
            piece = await self._connection.read()
        except _FAILURES as error:
            raise _ERRORS.as_ours(error, self._request) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def feed(self, sink: Sink) -> bool:
        """Pass the pieces on while they are read from the socket."""
        self._refuse_if_closed()
        try:
            return await self._connection.feed(sink)
        except _FAILURES as error:
            raise _ERRORS.as_ours(error, self._request) from error

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise RuntimeError("the stream is closed; its connection may have another answer now")


class _TotalClock:
    """The total clocks of all requests that may take the same time, with one timer.

    They run out in the order in which they began. So a request needs an entry in a dict, and not a
    timer of its own, which would cost more and stay in the loop for a while after the request.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: dict[asyncio.Future[None], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_end = 0.0
        # Of requests that needed time to connect, and are therefore behind later ones.
        self._late: dict[asyncio.Future[None], asyncio.TimerHandle] = {}

    def start(self, answered: asyncio.Future[None], end: float) -> None:
        """Let the future fail with TimeoutError at the time `end`."""
        if end < self._last_end:
            self._late[answered] = self._loop.call_at(end, _time_out, answered)
            return
        self._ends[answered] = self._last_end = end
        if self._timer is None:
            self._timer = self._loop.call_at(end, self._check)

    def stop(self, answered: asyncio.Future[None]) -> None:
        """Stop the clock of that request."""
        if self._ends.pop(answered, None) is None and answered in self._late:
            self._late.pop(answered).cancel()

    def _check(self) -> None:
        """Time out the requests whose time is over; then wait for the next one."""
        self._timer = None
        now = self._loop.time()
        while self._ends:
            answered = next(iter(self._ends))
            if (end := self._ends[answered]) > now:
                self._timer = self._loop.call_at(end, self._check)
                return
            del self._ends[answered]
            _time_out(answered)


def _time_out(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_exception(TimeoutError())


async def _unpacked_body(body: bytes, encoding: str, limits: AnswerLimits) -> bytes:
    pieces = unpacked(_in_pieces(body), encoding, limits)
    return b"".join([piece async for piece in pieces])


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(body), PIECE):
        yield body[place : place + PIECE]
