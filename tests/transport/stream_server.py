"""A server of asyncio streams, and the transport over asyncio's sockets as its client."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from llmengine.transport.asyncio_transport import AsyncioTransport
from llmengine.transport.base import HTTPRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A status line and headers."""
    return b"".join(line + b"\r\n" for line in (b"HTTP/1.1 " + status, *lines, b""))


OK = head(b"Content-Length: 2") + b"ok"


class Server:
    """Calls `handler` for each connection, and knows how many there were and are."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        self.connections = self.open = 0
        self._handler, self._options = handler, options
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, **self._options)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            self._tasks.discard(task)

    def request(self, path: str = "/", body: bytes = b"{}", **fields: Any) -> HTTPRequest:
        """A request to this server."""
        fields = {"headers": {}, "connect": 30, "total": 60, "host": "127.0.0.1"} | fields
        url = f"{fields.pop('scheme', 'http')}://{fields.pop('host')}:{self.port}{path}"
        return HTTPRequest(url, body=body, **fields)


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next request."""
    first = await reader.readuntil(b"\r\n\r\n")
    length = first.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return first, await reader.readexactly(int(length or 0))


def answers(*parts: bytes) -> Handler:
    """Sends the same answer to every request of a connection, each part by itself."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.001 if len(parts) > 1 else 0)

    return handler


@asynccontextmanager
async def transport() -> AsyncIterator[AsyncioTransport]:
    """The transport, which is closed afterwards."""
    made = AsyncioTransport()
    try:
        yield made
    finally:
        await made.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Return when the condition holds, also on a loop whose time stands still."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0)
    for _ in range(5):  # the client of this loop notices it too
        await asyncio.sleep(0)
