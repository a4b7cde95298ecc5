"""The transport over httpx, for users who mock, trace or route their traffic through httpx."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.transport.decompression import ACCEPT_ENCODING, unpacked
from llmengine.transport.errors import ClientErrors
from llmengine.transport.httpx_connections import close_with_surplus, no_cookies, send_or_close
from llmengine.transport.logs import scrub_logs
from llmengine.transport.mocks import unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmengine.transport.base import HTTPRequest

_ERRORS = ClientErrors(
    connect_timeout=httpx.ConnectTimeout,
    unconnected=httpx.ConnectError,
    broken=httpx.TransportError,
)


class HttpxTransport:
    """One httpx.AsyncClient; it must be created on the loop that uses it."""

    def __init__(self) -> None:
        scrub_logs()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(
            limits=limits,
            follow_redirects=False,
            cookies=no_cookies(),
            headers={"Accept-Encoding": ACCEPT_ENCODING},
        )

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        with _ERRORS.raised_as_ours(request):
            async with asyncio.timeout(request.total), self._sent(request) as response:
                body = b"".join([piece async for piece in _pieces(response, request)])
                return HTTPReply(response.status_code, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Send the request; only the connect clock is checked here, the reader checks the rest."""
        async with self._sent(request) as response:
            yield HTTPStream(response.status_code, response.headers, _chunks(response, request))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @asynccontextmanager
    async def _sent(self, request: HTTPRequest) -> AsyncIterator[httpx.Response]:
        built = self._client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers=httpx.Headers(request.headers, encoding="utf-8"),
            timeout=httpx.Timeout(None, connect=request.connect),
        )
        try:
            with _ERRORS.raised_as_ours(request):
                response = await send_or_close(self._client.send, built, stream=True)
        except AssertionError as error:  # respx raises one
            raise unanswered(error, request.url) or error from None
        if not response.is_stream_consumed:  # the answer of a mock is consumed already
            response.stream = _OneAnswer(response)
        try:
            yield response
        finally:
            await response.aclose()


class _OneAnswer(httpx.AsyncByteStream):
    """The body of a response; its connection is closed if the server sends more after it."""

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._source, self._extensions = response.stream, response.extensions

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._source)

    async def aclose(self) -> None:
        await close_with_surplus(self._source, self._extensions)
        await self._source.aclose()


async def _chunks(response: httpx.Response, request: HTTPRequest) -> AsyncIterator[bytes]:
    with _ERRORS.raised_as_ours(request):
        async for piece in _pieces(response, request):
            yield piece


def _pieces(response: httpx.Response, request: HTTPRequest) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:  # the answer of a mock is complete and decompressed
        return unpacked(response.aiter_bytes(), "", request.limits)
    encoding = response.headers.get("Content-Encoding", "")
    return unpacked(response.aiter_raw(), encoding, request.limits)
