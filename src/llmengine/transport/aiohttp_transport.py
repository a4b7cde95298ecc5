"""The transport over aiohttp, for proxies and for users who mock or trace it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import aiohttp

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.transport.decompression import ACCEPT_ENCODING, PIECE, unpacked
from llmengine.transport.errors import ClientErrors
from llmengine.transport.logs import scrub_logs
from llmengine.transport.proxies import EnvironmentProxies

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from aiohttp.client import _RequestContextManager
    from aiohttp.client_proto import ResponseHandler

    from llmengine.transport.answer_limits import AnswerLimits
    from llmengine.transport.base import HTTPRequest

# Servers close idle connections after 5 s (uvicorn, llama.cpp). Closing them earlier here avoids
# a request on a connection that is just being closed.
_KEEPALIVE = 4.0
_READ_BUFFER = 2**20  # some bodies are large; with the default of 64 KiB the reader pauses
_ERRORS = ClientErrors(
    connect_timeout=aiohttp.ConnectionTimeoutError,
    unconnected=aiohttp.ClientConnectorError,
    unreadable=aiohttp.ClientResponseError,
    broken=(aiohttp.ClientError, OSError),
)


class AiohttpTransport:
    """One aiohttp session; it must be created on the loop that uses it."""

    def __init__(self) -> None:
        scrub_logs()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE)
        self._session = aiohttp.ClientSession(
            connector=connector,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,
            headers={"Accept-Encoding": ACCEPT_ENCODING},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._proxies = EnvironmentProxies()
        # The reader of each open connection, once a body on it did not come with its headers.
        self._reading: dict[ResponseHandler, aiohttp.StreamReader] = {}

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        try:
            async with self._send(request, request.total) as response:
                body = await self._body(response, request.limits)
                return HTTPReply(response.status, response.headers, body)
        except (aiohttp.ClientError, OSError) as error:
            raise _ERRORS.as_ours(error, request) from error

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Send the request; only the connect clock is checked here, the reader checks the rest."""
        try:
            response = await self._send(request, None)
        except (aiohttp.ClientError, OSError) as error:
            raise _ERRORS.as_ours(error, request) from error
        try:
            chunks = self._chunks(response, request)
            yield HTTPStream(response.status, response.headers, chunks)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    def _send(self, request: HTTPRequest, total: float | None) -> _RequestContextManager:
        return self._session.request(
            request.method,
            request.url,
            data=request.body,
            headers=request.headers,
            timeout=_timeout(total, request.connect),
            allow_redirects=False,
            proxy=self._proxies.proxy_for(request.url) if self._proxies.exist else None,
        )

    async def _chunks(
        self, response: aiohttp.ClientResponse, request: HTTPRequest
    ) -> AsyncIterator[bytes]:
        try:
            async for piece in self._pieces(response, request):
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise _ERRORS.as_ours(error, request) from error

    async def _body(self, response: aiohttp.ClientResponse, limits: AnswerLimits) -> bytes:
        self._fail_on_disconnect(response)
        encoding = response.headers.get("Content-Encoding")
        if encoding:
            pieces = unpacked(response.content.iter_chunked(PIECE), encoding, limits)
            return b"".join([piece async for piece in pieces])
        # Most answers are small and plain; the generator for compressed ones would cost CPU.
        plain, size = [], 0
        while piece := await response.content.readany():
            size += len(piece)
            limits.hold_plain(size)
            plain.append(piece)
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _pieces(
        self, response: aiohttp.ClientResponse, request: HTTPRequest
    ) -> AsyncIterator[bytes]:
        self._fail_on_disconnect(response)
        encoding = response.headers.get("Content-Encoding", "")
        return unpacked(response.content.iter_chunked(PIECE), encoding, request.limits)

    def _fail_on_disconnect(self, response: aiohttp.ClientResponse) -> None:
        """Make the reader of a body fail when its connection is closed.

        aiohttp closes the connection at bytes that are not valid HTTP, such as a wrong chunk
        size, but does not tell a reader that waits for more of the body.
        """
        connection = response.connection  # None if the whole body has arrived
        protocol = None if connection is None else connection.protocol
        if protocol is None:
            return
        is_new = protocol not in self._reading
        self._reading[protocol] = response.content
        # Only one callback per connection, because a connection may serve thousands of answers.
        if is_new and protocol.closed is not None:
            protocol.closed.add_done_callback(lambda closed: self._closed(closed, protocol))

    def _closed(self, closed: asyncio.Future[None], protocol: ResponseHandler) -> None:
        content, broken = self._reading.pop(protocol), closed.exception() or protocol.exception()
        if not content.is_eof() and content.exception() is None:
            reason = " ".join(str(broken or "it was closed in the middle of the body").split())
            content.set_exception(aiohttp.ClientPayloadError(reason))


@lru_cache(64)
def _timeout(total: float | None, connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, connect=connect)
