"""HTTP connections with a deadline for the whole request, so that no server can hold it for longer.

The time-out of an HTTP client is for each read, so a server that sends one byte per second never
reaches it. Here every read, write and handshake gets the time that is left for the whole request.
"""

from __future__ import annotations

import socket
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

_PIECE = 65_536  # bytes per write; each write waits separately


@cache
def _tls() -> ssl.SSLContext:
    """The settings of TLS for all connections; reading the certificates takes 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


class Connections:
    """A pool of connections; it keeps up to `idle` of them open for the next request.

    ``receive_buffer`` is the size of a socket's receive buffer in bytes, or None for the system's.
    """

    def __init__(self, *, idle: int = 0, receive_buffer: int | None = None) -> None:
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(),
            max_connections=None,
            max_keepalive_connections=idle,
            network_backend=_Backend(self._deadline, receive_buffer),
        )

    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | Iterator[bytes] | None,
        deadline: float,
    ) -> AbstractContextManager[httpcore.Response]:
        """Send a request and stream its answer; `deadline` is a time on the monotonic clock.

        The answer must be read in the thread that sent the request. Raises httpcore's exceptions.
        """
        self._deadline.at = deadline
        parts = httpx.URL(url)
        address = httpcore.URL(
            scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path
        )
        pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        return self._pool.stream(method, address, headers=pairs, content=content)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class _Deadline(threading.local):
    """The deadline of the request in this thread."""

    at: float = 0.0

    def left(self, late: type[httpcore.TimeoutException]) -> float:
        """The seconds that are left; raises `late` if there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise late("the time of the request is over")
        return left


class _Backend(httpcore.NetworkBackend):
    """httpcore's own sockets with our time limits."""

    def __init__(self, deadline: _Deadline, receive_buffer: int | None) -> None:
        self._deadline = deadline
        self._buffer = receive_buffer
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - our deadline replaces it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        if self._buffer is not None:
            size = (socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            socket_options = [*(socket_options or ()), size]
        stream = self._sockets.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """One connection whose waits end at the request's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - our deadline replaces it
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - our deadline replaces it
        for start in range(0, len(buffer), _PIECE):
            left = self._deadline.left(httpcore.WriteTimeout)
            self._stream.write(buffer[start : start + _PIECE], left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - our deadline replaces it
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
