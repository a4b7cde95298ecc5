"""HTTP/1.1 over asyncio streams, one event a chunk.

h11 says where a chunk ends and sends each piece as a chunk of its own, and reads what came before
a broken connection. An HTTP client or server library joins, splits or drops at those places, and
those places are what a recording is about.

A server on loopback in a thread of its own, so that the code under test may block.

The client at our end of a connection: what it asks, and what is sent back to it.
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

    RequestHandler = Callable[["Request", "Client"], Coroutine[None, None, None]]


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


HOST = "127.0.0.1"


class LoopbackServer:
    """Gives every request to `answer`, which runs on the server's own event loop.

    ``answer`` deals with its own errors; it is cancelled when its client closes the connection. An
    answer that it has not ended is cut: the connection is closed.
    ``port`` 0 takes a free one.
    """

    def __init__(self, answer: RequestHandler, port: int = 0) -> None:
        self._answer = answer
        self._port = port
        self._answering: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def root_url(self) -> str:
        """Where it listens: ``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Listen; raises OSError that names the port when it is in use."""
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
        """Wait for the answers under way, and cancel those that take longer than `seconds`."""
        asyncio.run_coroutine_threadsafe(self._settle(seconds), self._loop).result()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._connected, HOST, self._port)
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
        client = Client(reader, writer)
        try:
            while (request := await client.request()) is not None:
                await self._answer_while_connected(request, client)
                if not client.next_request():
                    break
        except h11.RemoteProtocolError as error:
            await _refuse(client, error)
        except ConnectionError:
            pass  # the client is gone: nobody is left to tell
        except asyncio.CancelledError:
            client.abort()  # this server stops
        finally:
            client.close()
            self._connections.discard(task)

    async def _answer_while_connected(self, request: Request, client: Client) -> None:
        work = asyncio.create_task(self._answer(request, client))
        gone = asyncio.create_task(client.gone())
        self._answering.add(work)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()  # does nothing to one that is done
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


async def _refuse(client: Client, error: h11.RemoteProtocolError) -> None:
    if not client.answered:
        with contextlib.suppress(ClientGone):
            await client.error(400, "bad_http", f"this is not a request in HTTP/1.1: {error}")


ASKED_METHOD = "access-control-request-method"  # has it: a browser's question, not a request


class ClientGone(Exception):  # noqa: N818 - reads as what happened
    """The client closed its connection before the answer had ended."""


class Client:
    """One connection from a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire = Wire(h11.SERVER, reader, writer)
        self._wants_body = True
        self.reader_origin: str | None = None  # of a web page that may read the answer

    async def request(self) -> Request | None:
        """The next request with its whole body; None when the client has closed."""
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
        """Send the status line and the headers, with today's date when they have none.

        Which web pages may read an answer is not for the recorded server to say, but for ours.
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
        """Send bytes as one chunk; a HEAD request gets none."""
        if self._wants_body:
            await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def error(self, status: int, code: str, message: str) -> None:
        """Answer with OpenAI's error envelope, and ask SDKs not to try again."""
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

    async def permit(self, request: Request) -> None:
        """Answer a browser's question whether a page may send what it wants to."""
        asked = dict(request.headers)
        allowed = {
            "access-control-allow-origin": self.reader_origin or "null",
            "access-control-allow-methods": asked[ASKED_METHOD],
            "access-control-allow-headers": asked.get("access-control-request-headers", "*"),
        }
        headers = [*allowed.items(), ("content-length", "0")]
        await self._send(h11.Response(status_code=204, headers=raw_headers(tuple(headers))))
        await self.end()

    async def gone(self) -> None:
        """Return when the client has closed its connection."""
        await self._wire.closed_by_peer()

    def next_request(self) -> bool:
        """Make ready for another request on this connection; False when it cannot have one."""
        if self._wire.http.our_state is not h11.DONE or self._wire.http.their_state is not h11.DONE:
            return False
        self._wire.http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close the connection; an answer that has not ended is seen as cut."""
        self._wire.close()

    def abort(self) -> None:
        """Close the connection without sending what is still buffered."""
        self._wire.abort()

    async def _send(self, event: h11.Event) -> None:
        try:
            await self._wire.send(event)
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
