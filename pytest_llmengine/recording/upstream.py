"""The server that is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import h11
import httpx

from llmengine.types.errors import ConfigError
from llmengine.types.hosts import is_loopback
from pytest_llmengine.recording.wire import Wire, raw_headers

if TYPE_CHECKING:
    import ssl

    from pytest_llmengine.recording.wire import Request

_CONNECT_SECONDS = 10.0
# Ours to set: the address is another one, and a compressed body could be neither read nor redacted.
_REPLACED = frozenset({"host", "accept-encoding", "content-length", "expect"})


class UpstreamUnreachable(Exception):  # noqa: N818 - reads as what happened
    """No connection to the upstream server could be made."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An address, ``http`` or ``https``, with the path that stands before every request's own."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From a URL such as ``http://127.0.0.1:8080``; raises ConfigError."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ConfigError(
                f"upstream is {parts.scheme}://{parts.hostname}; give http:// or https:// with a "
                "host, and a key by the client's Authorization header, not in the URL"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def origin(self) -> str:
        """Scheme, host and port, the port left out where it is the scheme's own."""
        default = {"http": 80, "https": 443}[self.scheme]
        return self._origin(None if self.port == default else self.port)

    @property
    def recorded_url(self) -> str:
        """The address as a cassette keeps it: on loopback the port is another one on every run."""
        return (self._origin(None) if is_loopback(self.host) else self.origin) + self.prefix

    async def open(self) -> Wire:
        """A new connection, so that none is stale; raises UpstreamUnreachable."""
        tls = _tls() if self.scheme == "https" else None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                streams = await asyncio.open_connection(self.host, self.port, ssl=tls)
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
            raise UpstreamUnreachable(
                f"the upstream server {self.origin} cannot be reached: {reason}"
            ) from error
        return Wire(h11.CLIENT, *streams)

    async def ask(self, wire: Wire, request: Request) -> None:
        """Send a request with the client's own headers, keys included."""
        framing = ("content-length", str(len(request.body)))
        if request.chunked:
            framing = ("transfer-encoding", "chunked")
        headers = [(k, v) for k, v in request.headers if k not in _REPLACED]
        headers += [("host", urlsplit(self.origin).netloc), ("accept-encoding", "identity")]
        if request.body or request.chunked or request.method in {"POST", "PUT", "PATCH"}:
            headers.append(framing)
        await wire.send(
            h11.Request(
                method=request.method,
                target=self.prefix + request.target,
                headers=raw_headers(tuple(headers)),
            ),
            h11.Data(data=request.body),
            h11.EndOfMessage(),
        )

    def _origin(self, port: int | None) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{port}" if port else "")


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()
