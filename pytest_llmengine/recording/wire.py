"""HTTP/1.1 over asyncio streams, one event a chunk.

h11 says where a chunk ends and sends each piece as a chunk of its own, and reads what came before
a broken connection. An HTTP client or server library joins, splits or drops at those places, and
those places are what a recording is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

Headers = tuple[tuple[str, str], ...]

_READ_SIZE = 65536
_MAX_HEAD = 262_144  # bytes of a request or response head
# RFC 9110, section 7.6.1, and Content-Length's rival: they speak of one connection only.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: header names in lower case, the target as path and query.

    ``chunked`` says that the body came with Transfer-Encoding instead of Content-Length. Keys may
    stand in all but the method, so that the repr shows nothing else.
    """

    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    chunked: bool = False


class Wire:
    """One end of one connection."""

    def __init__(
        self, role: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.http = h11.Connection(role, max_incomplete_event_size=_MAX_HEAD)
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Any:
        """The next h11 event; raises h11.RemoteProtocolError or OSError when it broke."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self._reader.read(_READ_SIZE))
        if event is h11.PAUSED:
            raise h11.RemoteProtocolError("the connection was switched to another protocol")
        return event

    async def send(self, *events: Any) -> None:
        """Write h11 events."""
        self._writer.write(b"".join(self.http.send(event) or b"" for event in events))
        await self._writer.drain()

    async def closed_by_peer(self) -> None:
        """Return when the other end has closed; what it sends before is kept for `receive`."""
        while data := await self._reader.read(_READ_SIZE):
            self.http.receive_data(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._writer.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


def text_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Header names in lower case, with their values."""
    return tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in raw)


def raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The same as bytes."""
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]


def end_to_end(headers: Headers) -> Headers:
    """The headers that a proxy passes on, those that Connection names left out as well."""
    named = {name.strip().lower() for k, v in headers if k == "connection" for name in v.split(",")}
    return tuple((k, v) for k, v in headers if k not in _HOP_BY_HOP | named)


def is_chunked(headers: Headers) -> bool:
    """Whether a body has chunk boundaries of its own."""
    return any(k == "transfer-encoding" and "chunked" in v.lower() for k, v in headers)
