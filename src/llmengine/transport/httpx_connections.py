"""What this library changes about the connections of httpx and httpx2."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")

# Attributes that lead from the stream of a response to the parser of its connection, in httpx,
# httpcore and h11.
_WAY = ("_stream", "_httpcore_stream", "_connection", "_h11_state")


def no_cookies() -> CookieJar:
    """A store of cookies that keeps none; a client without it sends back those of each server."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


async def close_with_surplus(source: Any, extensions: Any) -> None:
    """Close the connection of a response that was read, if it holds more than that response.

    httpx keeps bytes that follow an answer and takes them for the answer to the next request.
    Every later prompt on that connection would then get the answer of another prompt. aiohttp
    closes such a connection itself.

    ``source`` is the stream of the response, which must not be closed yet, and ``extensions`` are
    those of the response. There is no public way to get the parser. If httpx changes, this
    function does nothing, and a test in tests/faults fails.
    """
    parser = source
    while not hasattr(parser, "trailing_data"):
        name = next((name for name in _WAY if hasattr(parser, name)), None)
        if name is None:
            return
        parser = getattr(parser, name)
    data, _ = parser.trailing_data
    if data and "network_stream" in extensions:
        await extensions["network_stream"].aclose()


async def send_or_close(send: Callable[..., Awaitable[T]], request: Any, **options: object) -> T:
    """The response of ``send(request)``; if that fails, the connection it has opened is closed.

    httpcore does not close a connection if it is cancelled during the TLS handshake, or (1.x) just
    before the request is written.
    """
    opened = _OpenedConnection()
    request.extensions["trace"] = opened
    try:
        return await send(request, **options)
    except BaseException:
        await opened.aclose()
        raise


class _OpenedConnection:
    """A ``trace`` extension of httpx that gets to know the connection a request opens."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the connection when it is open."""
        if event.endswith(".connect_tcp.complete"):
            self._stream = info["return_value"]

    async def aclose(self) -> None:
        """Close the connection, if one was opened; it may be closed already."""
        if self._stream is not None:
            await self._stream.aclose()
