"""The other transport: httpx, for those who mock, trace or route their traffic through it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.values.errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmengine.transport.base import HTTPRequest


class HttpxTransport:
    """One httpx.AsyncClient; made on the loop it lives on."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        with _mapped(request):
            async with asyncio.timeout(request.total):
                response = await self._client.request(
                    request.method,
                    request.url,
                    content=request.body,
                    headers=httpx.Headers(request.headers, encoding="utf-8"),
                    timeout=httpx.Timeout(None, connect=request.connect),
                )
        return HTTPReply(response.status_code, response.headers, response.content)

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[HTTPStream]:
        """Send the request; only the connect clock is kept here, the others by the reader."""
        built = self._client.build_request(
            request.method,
            request.url,
            content=request.body,
            headers=httpx.Headers(request.headers, encoding="utf-8"),
            timeout=httpx.Timeout(None, connect=request.connect),
        )
        with _mapped(request):
            response = await self._client.send(built, stream=True)
        try:
            yield HTTPStream(response.status_code, response.headers, _chunks(response, request))
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


async def _chunks(response: httpx.Response, request: HTTPRequest) -> AsyncIterator[bytes]:
    with _mapped(request):
        async for chunk in response.aiter_bytes():
            yield chunk


@contextmanager
def _mapped(request: HTTPRequest) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectTimeout as error:
        msg = f"no connection to {request.url} within {request.connect:g} s"
        raise APITimeoutError(msg, clock="connect") from error
    except TimeoutError as error:
        msg = f"no whole answer from {request.url} within {request.total:g} s"
        raise APITimeoutError(msg, clock="total") from error
    except httpx.ConnectError as error:
        msg = f"cannot connect to {request.url}: {error}"
        raise APIConnectionError(msg) from error
    except httpx.TransportError as error:
        msg = f"the connection to {request.url} broke: {error or type(error).__name__}"
        raise APIConnectionError(msg) from error
