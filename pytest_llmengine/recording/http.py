"""HTTP/1.1 with one event per chunk: connections and a loopback server, over asyncio and h11.

h11 reports where a chunk ends, sends each piece as a chunk of its own, and can read the part of an
answer before a broken connection. HTTP client and server libraries join, split or drop data at
these places, which a recording must keep.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    RequestHandler = Callable[["Request", "ClientConnection"], Coroutine[None, None, None]]


Headers = tuple[tuple[str, str], ...]

_READ_SIZE = 65536
# Connections that may wait to be accepted. If there are more, the kernel drops some, and their
# clients try again only after a second.
_BACKLOG = 1024
_MAX_HEAD = 262_144  # limit for the head of a request or response, in bytes
# Headers that describe a single connection: RFC 9110, section 7.6.1, and Transfer-Encoding.
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
    """A request as it was received: header names in lower case, the target as path and query.

    ``chunked`` says that the body was sent with Transfer-Encoding instead of Content-Length. The
    repr shows only the method, because every other field may hold a key.
    """

    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    chunked: bool = False


class H11Connection:
    """One end of a connection, as client or as server."""

    def __init__(
        self, role: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.http = h11.Connection(role, max_incomplete_event_size=_MAX_HEAD)
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Any:
        """Return the next h11 event; raises h11.RemoteProtocolError or OSError if it breaks."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self._reader.read(_READ_SIZE))
        if event is h11.PAUSED:
            raise h11.RemoteProtocolError("the connection was switched to another protocol")
        return event

    async def send(self, *events: Any) -> None:
        """Send h11 events."""
        self._writer.write(b"".join(self.http.send(event) or b"" for event in events))
        await self._writer.drain()

    async def closed_by_peer(self) -> None:
        """Return when the peer has closed; data that it sends before is kept for `receive`."""
        while data := await self._reader.read(_READ_SIZE):
            self.http.receive_data(data)

    def close(self) -> None:
        """Close the connection after all written data was sent."""
        self._writer.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()


def text_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Header names in lower case, with their values."""
    return tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in raw)


def raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers in the form that h11 sends."""
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers]


def end_to_end(headers: Headers) -> Headers:
    """The headers that a proxy passes on; it also leaves out those that Connection names."""
    named = {name.strip().lower() for k, v in headers if k == "connection" for name in v.split(",")}
    return tuple((k, v) for k, v in headers if k not in _HOP_BY_HOP | named)


def is_chunked(headers: Headers) -> bool:
    """Whether the body is sent in chunks, with Transfer-Encoding."""
    return any(k == "transfer-encoding" and "chunked" in v.lower() for k, v in headers)


HOST = "127.0.0.1"


class LoopbackServer:
    """A server on loopback that gives every request to `answer`.

    The server has its own thread and event loop, so the code under test may block. ``answer`` must
    handle its own errors. It is cancelled when its client closes the connection. If it returns
    before the end of the answer, the answer is cut: the connection is closed.
    With ``port`` 0 the server takes a free port.
    """

    def __init__(self, answer: RequestHandler, port: int = 0) -> None:
        self._answer = answer
        self._port = port
        self._answering: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def root_url(self) -> str:
        """The address of the server: ``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Start to listen; raises OSError that names the port if it is in use."""
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(self._listen())
        except OSError:
            self._loop.close()
            raise
        self._port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"llmengine-{self._port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def settle(self, seconds: float) -> None:
        """Wait for the answers in progress, and cancel those that take longer than `seconds`."""
        asyncio.run_coroutine_threadsafe(self._settle(seconds), self._loop).result()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._connected, HOST, self._port, backlog=_BACKLOG)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot listen on {HOST}:{self._port} ({error.strerror}); "
                "give another port, or 0 for a free one",
            ) from error

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        client = ClientConnection(reader, writer)
        try:
            while (request := await client.request()) is not None:
                await self._answer_while_connected(request, client)
                if not client.next_request():
                    break
        except h11.RemoteProtocolError as error:
            await _refuse(client, error)
        except ConnectionError:
            pass  # the client is gone, so the error cannot be sent to it
        except asyncio.CancelledError:
            client.abort()  # the server is being stopped
        finally:
            client.close()
            self._connections.discard(task)

    async def _answer_while_connected(self, request: Request, client: ClientConnection) -> None:
        work = asyncio.create_task(self._answer(request, client))
        gone = asyncio.create_task(client.disconnected())
        self._answering.add(work)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()  # has no effect on a task that is done
            await asyncio.gather(work, gone, return_exceptions=True)
            self._answering.discard(work)
        if not work.cancelled():
            work.result()

    async def _settle(self, seconds: float) -> None:
        if self._answering:
            _, late = await asyncio.wait(set(self._answering), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _close(self) -> None:
        self._server.close()
        for task in set(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _refuse(client: ClientConnection, error: h11.RemoteProtocolError) -> None:
    if not client.answered:
        with contextlib.suppress(ClientDisconnected):
            await client.error(400, "bad_http", f"this is not a request in HTTP/1.1: {error}")


PREFLIGHT_HEADER = (
    "access-control-request-method"  # only a browser's preflight request has this header
)


class ClientDisconnected(Exception):  # noqa: N818 - reads as what happened
    """The client closed its connection before the answer had ended."""


class ClientConnection:
    """The server's end of a connection: reads the client's requests and sends it the answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire = H11Connection(h11.SERVER, reader, writer)
        self._wants_body = True
        self.reader_origin: str | None = None  # origin of the web page that may read the answer

    async def request(self) -> Request | None:
        """Return the next request with its whole body; None if the client has closed."""
        head = await self._wire.receive()
        if not isinstance(head, h11.Request):
            return None
        self._wants_body = head.method != b"HEAD"
        body = b""
        while isinstance(event := await self._wire.receive(), h11.Data):
            body += event.data
        headers = text_headers(head.headers)
        method, target = head.method.decode("ascii"), head.target.decode("latin-1")
        return Request(method, target, end_to_end(headers), body, is_chunked(headers))

    @property
    def answered(self) -> bool:
        """Whether a status line was sent for the current request."""
        return self._wire.http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    async def head(self, status: int, reason: str, headers: Headers) -> None:
        """Send the status line and the headers, with the current date if they have none.

        The CORS headers are ours: this server decides which web pages may read an answer, and not
        the recorded one.
        """
        headers = tuple((k, v) for k, v in headers if not k.startswith("access-control-"))
        if self.reader_origin is not None:
            headers = (*headers, ("access-control-allow-origin", self.reader_origin))
        if not any(name == "date" for name, _ in headers):
            headers = (*headers, ("date", formatdate(usegmt=True)))
        await self._send(
            h11.Response(
                status_code=status,
                reason=reason.encode("latin-1", "replace"),
                headers=raw_headers(headers),
            )
        )

    async def chunk(self, data: bytes) -> None:
        """Send bytes as one chunk; the answer to a HEAD request has no body."""
        if self._wants_body:
            await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def error(self, status: int, code: str, message: str) -> None:
        """Answer with OpenAI's error envelope and a header that tells SDKs not to retry."""
        envelope = {"error": {"message": message, "type": code, "param": None, "code": code}}
        body = json.dumps(envelope, indent=1).encode()
        headers = (
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-should-retry", "false"),
        )
        await self.head(status, HTTPStatus(status).phrase, headers)
        await self.chunk(body)
        await self.end()

    async def answer_preflight(self, request: Request) -> None:
        """Answer a browser's preflight request, which asks whether a page may send its request."""
        headers = dict(request.headers)
        allowed = {
            "access-control-allow-origin": self.reader_origin or "null",
            "access-control-allow-methods": headers[PREFLIGHT_HEADER],
            "access-control-allow-headers": headers.get("access-control-request-headers", "*"),
        }
        answer = (*allowed.items(), ("content-length", "0"))
        await self._send(h11.Response(status_code=204, headers=raw_headers(answer)))
        await self.end()

    async def disconnected(self) -> None:
        """Return when the client has closed its connection."""
        await self._wire.closed_by_peer()

    def next_request(self) -> bool:
        """Prepare for the next request on this connection; False if there cannot be one."""
        if self._wire.http.our_state is not h11.DONE or self._wire.http.their_state is not h11.DONE:
            return False
        self._wire.http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close the connection; the client sees an unfinished answer as cut."""
        self._wire.close()

    def abort(self) -> None:
        """Close the connection without sending what is still buffered."""
        self._wire.abort()

    async def _send(self, event: h11.Event) -> None:
        try:
            await self._wire.send(event)
        except ConnectionError as error:
            raise ClientDisconnected(str(error)) from error
