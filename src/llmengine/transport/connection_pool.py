"""The connections of one event loop: addresses, TLS, and connections that are kept open."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from aiohappyeyeballs import start_connection

from llmengine.transport.http1_connection import HTTP1Connection

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType

# Servers close idle connections after 5 s (uvicorn, llama.cpp). Closing them earlier here avoids
# a request on a connection that is just being closed.
KEEPALIVE = 4.0
# Without it, a thousand new connections would look up their server's name a thousand times.
_LOOKUP_LASTS = 10.0
_NEXT_ADDRESS_AFTER = 0.25  # seconds, as RFC 8305 recommends
_RECEIVED_AT_ONCE = 2**18
_TURNS_TO_CLOSE = 100


class Origin(NamedTuple):
    """A server: whether it speaks TLS, its host name or address, and its port."""

    tls: bool
    host: str
    port: int


class ConnectionPool:
    """Makes connections, and keeps those that can be used again for a few seconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_RECEIVED_AT_ONCE))
        self._open: dict[HTTP1Connection, Origin] = {}
        # Those that are free, with the time since when; the one that was used last is at the end.
        self._idle: dict[Origin, dict[HTTP1Connection, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._on_close = self._forget  # one bound method for all connections
        self._resolver = _Resolver(self._loop)

    def take(self, origin: Origin) -> HTTP1Connection | None:
        """A connection that is free, the one that was used last; None if there is none."""
        idle = self._idle.get(origin)
        while idle:
            connection, since = idle.popitem()
            if connection.is_reusable and since > self._loop.time() - KEEPALIVE:
                return connection
            connection.abort()
        return None

    def give_back(self, connection: HTTP1Connection) -> None:
        """Keep a connection after its request, or close it if it cannot be used again."""
        origin = self._open.get(connection)
        if origin is None or not connection.is_reusable:
            connection.abort()
            return
        now = self._loop.time()
        self._idle.setdefault(origin, {})[connection] = now
        if self._sweeper is None:
            self._sweeper = self._loop.call_at(now + KEEPALIVE, self._sweep)

    async def connect(self, origin: Origin) -> HTTP1Connection:
        """A new connection; raises OSError, of which ssl.SSLError is a subclass."""
        addresses = await self._resolver.addresses(origin.host, origin.port)
        try:
            sock = await start_connection(
                addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, interleave=1
            )
        except OSError:
            self._resolver.forget(origin.host, origin.port)
            raise
        _, connection = await self._loop.create_connection(
            lambda: HTTP1Connection(self._buffer, self._on_close),
            sock=sock,
            ssl=self._tls if origin.tls else None,
            server_hostname=origin.host.rstrip(".") if origin.tls else None,
        )
        if connection.is_reusable:  # otherwise it is closed already
            self._open[connection] = origin
        return connection

    async def aclose(self) -> None:
        """Close every connection; a request that is under way fails."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._resolver.close()
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        for _ in range(_TURNS_TO_CLOSE):  # the loop closes the sockets in its next turns
            if not self._open:
                break
            await asyncio.sleep(0)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The settings of TLS; OpenSSL and Python read SSL_CERT_FILE, SSLKEYLOGFILE and others."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _forget(self, connection: HTTP1Connection) -> None:
        """Forget a connection that is closed."""
        origin = self._open.pop(connection, None)
        if origin in self._idle:
            self._idle[origin].pop(connection, None)

    def _sweep(self) -> None:
        """Close the connections that were free for too long, and come back for the next one."""
        now = self._loop.time()
        next_end = None
        for origin, idle in list(self._idle.items()):
            expired = []
            for connection, since in idle.items():
                if (end := since + KEEPALIVE) > now:
                    next_end = end if next_end is None else min(next_end, end)
                    break
                expired.append(connection)
            for connection in expired:
                del idle[connection]
                connection.abort()
            if not idle:
                del self._idle[origin]
        self._sweeper = None
        if next_end is not None:
            self._sweeper = self._loop.call_at(next_end, self._sweep)


class _Resolver:
    """Looks up the addresses of hosts, one lookup at a time per host, and keeps them a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._found: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}
        self._lookups: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}

    async def addresses(self, host: str, port: int) -> list[AddrInfoType]:
        """The addresses of a host, each time with another one first; raises OSError."""
        if (address := _as_address(host, port)) is not None:
            return [address]
        key = (host, port)
        until, found = self._found.get(key, (0.0, []))
        if until <= self._loop.time():
            if key not in self._lookups:
                lookup = self._loop.create_task(self._look_up(host, port))
                lookup.add_done_callback(self._note_end)
                self._lookups[key] = lookup
            # Shielded, because other requests wait for it too.
            found = await asyncio.shield(self._lookups[key])
        found.append(found.pop(0))
        return list(found)

    def forget(self, host: str, port: int) -> None:
        """Look the host up again next time, because nothing answers at its addresses."""
        self._found.pop((host, port), None)

    def close(self) -> None:
        """Cancel all lookups."""
        for lookup in self._lookups.values():
            lookup.cancel()

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        key = (host, port)
        try:
            kind, flags = socket.SOCK_STREAM, socket.AI_ADDRCONFIG
            found: list[AddrInfoType] = []
            found += await self._loop.getaddrinfo(host, port, type=kind, flags=flags)
        finally:
            del self._lookups[key]
        self._found[key] = self._loop.time() + _LOOKUP_LASTS, found
        return found

    def _note_end(self, lookup: asyncio.Task[list[AddrInfoType]]) -> None:
        if not lookup.cancelled():
            lookup.exception()  # otherwise it is logged if every request was cancelled meanwhile


def _as_address(host: str, port: int) -> AddrInfoType | None:
    """A numeric address as getaddrinfo gives it; None for a name, or an address with a zone."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    if "%" in host:
        return None
    protocol = socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
    if version == 4:  # noqa: PLR2004 - of IP
        return socket.AF_INET, *protocol, (host, port)
    return socket.AF_INET6, *protocol, (host, port, 0, 0)
