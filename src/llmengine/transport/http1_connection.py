"""One HTTP/1.1 connection: an asyncio protocol around the parser of httptools.

httptools is a thin wrapper of llhttp, which is also the parser of aiohttp and Node.js. What llhttp
leaves to its users is done here: the limits of headers, bytes that follow an answer, and the end of
a body that ends with its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade
from httptools import HttpResponseParser as Parser

from llmengine.types.errors import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llmengine.transport.answer_limits import AnswerLimits
    from llmengine.transport.base import Sink

    Fields = list[tuple[bytes, bytes]]

# The limits of the headers of one answer, and of the bytes that come between two parts of a body.
_HEADER_BYTES = 2**16
_HEADER_FIELDS = 128
# When more of a stream than this waits for its reader, nothing more is read from the server.
_UNREAD_BYTES = 2**18
_LARGEST_PIECE = 2**16
_CONTINUE, _SWITCHING_PROTOCOLS, _OK = 100, 101, 200
# A larger body is not copied behind its head, but written by itself.
_LARGE_BODY = 2**16


class HTTP1Error(Exception):
    """A request on a connection has failed."""


class DisconnectedError(HTTP1Error):
    """The connection was closed before the answer was complete."""


class InvalidHTTPError(HTTP1Error):
    """The server has sent something that is not an HTTP/1 answer."""


class RawHeaders(Mapping[str, str]):
    """The headers of an answer, which are decoded when one of them is read.

    Names are in lower case and found in any case. Of headers with the same name, the first counts.
    """

    __slots__ = ("_decoded", "_fields")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._decoded: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._values()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def _values(self) -> dict[str, str]:
        if self._decoded is None:
            self._decoded = {}
            for name, value in self._fields:
                text = value.decode("utf-8", "surrogateescape")
                self._decoded.setdefault(_lower(name).decode("latin-1"), text)
        return self._decoded


class RequestHead(Protocol):
    """The head of requests, which is also what holds their keys."""

    def for_body(self, length: int) -> bytes:
        """The bytes that are sent before a body of that length."""
        ...


class HTTP1Connection(asyncio.BufferedProtocol):
    """A connection that sends one request at a time and reads its answer.

    ``buffer`` receives the bytes of every connection of the loop. That is safe because the bytes
    are parsed, and copied by the parser, before the loop does anything else. It must be a
    memoryview, because asyncio's TLS writes into slices of it.
    """

    __slots__ = (
        "__weakref__",
        "_blank",
        "_buffer",
        "_closed",
        "_complete",
        "_error",
        "_has_length",
        "_has_nul",
        "_header_bytes",
        "_in_body",
        "_keep_alive",
        "_limits",
        "_loop",
        "_parser",
        "_paused",
        "_pieces",
        "_sink",
        "_size",
        "_transport",
        "_unread",
        "_waiter",
        "_whole",
        "_written",
        "encoding",
        "fields",
        "status",
    )
    _limits: AnswerLimits
    _transport: asyncio.Transport

    def __init__(self, buffer: memoryview, closed: Callable[[HTTP1Connection], None]) -> None:
        self.status = 0
        self.fields: Fields = []
        self.encoding = ""
        self._loop = asyncio.get_running_loop()
        self._buffer = buffer
        self._closed = closed
        self._parser: Parser | None = _parser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Sink | None = None  # while `feed` waits
        self._error: Exception | None = None
        self._complete = True  # there is no answer under way
        self._keep_alive = True
        self._whole = True
        self._written = True
        self._paused = False
        self._start()

    def _start(self) -> None:
        """Forget the last answer."""
        self.fields = []
        self.encoding = ""
        self._pieces: list[bytes] = []
        self._size = 0  # of the body so far
        self._unread = 0  # of `_pieces`
        self._blank = 0  # bytes since the last part of the body
        self._header_bytes = 0
        self._in_body = False
        self._has_length = False
        self._has_nul = False

    # ---- requests

    def send(
        self, head: RequestHead, body: bytes, limits: AnswerLimits, *, whole: bool
    ) -> asyncio.Future[None]:
        """Send a request; the future is done when the answer, or only its head, has arrived.

        ``whole`` is true for the answer. Otherwise the body is read by `read`. The future has the
        error if the request fails; the owner of the connection closes it in any case of error.
        """
        transport = self._transport
        if transport.is_closing():
            raise DisconnectedError(self._how_it_ended())
        self._start()
        self._limits, self._whole = limits, whole
        self._complete = False
        self._waiter = waiter = self._loop.create_future()
        if len(body) < _LARGE_BODY:
            transport.write(head.for_body(len(body)) + body)
        else:
            transport.write(head.for_body(len(body)))
            transport.write(body)
        self._written = not transport.get_write_buffer_size()
        return waiter

    def take_body(self) -> bytes:
        """The whole body, once the future of `send` is done; it can be taken once."""
        pieces, self._pieces = self._pieces, []
        self._unread = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """The next piece of the body, as soon as there is one; empty at its end.

        What has arrived before an error is returned first.
        """
        while not self._pieces:
            if self._has_ended():
                return b""
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._take_piece()

    async def feed(self, sink: Sink) -> bool:
        """Pass the pieces of the body to `sink`, those to come while they are being received.

        Returns True at the end of the body, and False when ``sink`` did. What has arrived before
        an error is passed on first. An error of ``sink`` is raised here.
        """
        while True:
            while self._pieces:
                if not sink(self._take_piece()):
                    return False
            if self._has_ended():
                return True
            self._sink, self._waiter = sink, self._loop.create_future()
            try:
                await self._waiter
            finally:
                is_full, self._sink = self._sink is None, None
            if is_full:
                return False

    def _has_ended(self) -> bool:
        """Whether the body has ended; raises the error if it ended with one."""
        if self._error is not None:
            raise self._error
        return self._complete

    def _take_piece(self) -> bytes:
        data = self.take_body()
        if len(data) > _LARGEST_PIECE:
            data, rest = data[:_LARGEST_PIECE], data[_LARGEST_PIECE:]
            self._pieces.append(rest)
            self._unread = len(rest)
        elif self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        return data

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: the answer is complete and the server keeps on."""
        return (
            self._complete
            and self._keep_alive
            and not self._paused
            and not self._transport.is_closing()
            and (self._written or not self._transport.get_write_buffer_size())
        )

    def abort(self) -> None:
        """Close the connection at once."""
        self._keep_alive = False
        self._transport.abort()

    # ---- calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the interface of asyncio
        """The buffer for the next bytes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse the bytes; what they hold is passed on only if all of them are valid."""
        if self._complete or self._parser is None:
            self.abort()  # nothing was requested, so it would be taken for the next answer
            return
        before = len(self._pieces)
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except HttpParserUpgrade:
            pass  # "101 Switching Protocols" is the whole answer
        except HttpParserError as error:
            if not (self._complete and self.status == _SWITCHING_PROTOCOLS):
                del self._pieces[before:]
                self._fail(_chained(InvalidHTTPError(str(error)), error))
                return
        try:
            self._note_progress(nbytes, len(self._pieces) - before)
        except HTTP1Error as error:
            del self._pieces[before:]
            self._fail(error)
            return
        except AnswerTooLargeError as error:
            self._fail(error)
            return
        self._pass_on()

    def eof_received(self) -> None:
        """The server sends nothing more; that is how a body without a length ends."""
        if self._complete:
            return
        if self._in_body and not self._has_length:
            self._complete, self._keep_alive = True, False
            self._pass_on()
        else:
            self._fail(DisconnectedError(self._how_it_ended()))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._keep_alive = False
        if not self._complete:
            self._fail(_chained(DisconnectedError(str(exc or self._how_it_ended())), exc))
        self._parser = None  # they refer to each other
        self._closed(self)

    def _how_it_ended(self) -> str:
        if self._in_body:
            return "it was closed in the middle of the body"
        return "it was closed before the answer"

    # ---- calls of the parser

    def on_message_begin(self) -> None:
        """An answer begins; if one is complete, nobody has asked for another one."""
        if self._complete:
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is ignored."""
        if self._complete:
            return
        self._header_bytes += len(name) + len(value)
        if not self._in_body:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Look at the headers that say how the body is sent."""
        if self._complete or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        self._in_body = True
        for name, value in self.fields:
            if b"\0" in value:
                self._has_nul = True
            if len(name) < len(b"content-length"):
                continue  # none of the names below
            lower = _lower(name)
            if lower == b"content-length":
                self._has_length = True
            elif lower == b"transfer-encoding":
                # If the parser does not take it for chunked, a body is called cut that is not.
                self._has_length = self._has_length or b"chunked" in value.lower()
            elif lower == b"content-encoding":
                text = value.decode("latin-1")
                self.encoding = f"{self.encoding}, {text}" if self.encoding else text

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if not self._complete:
            self._pieces.append(data)
            self._size += len(data)
            self._unread += len(data)

    def on_message_complete(self) -> None:
        """The answer is complete, or one such as "100 Continue" that comes before it."""
        if self._complete or self._parser is None:
            return
        if _CONTINUE <= self.status < _OK and self.status != _SWITCHING_PROTOCOLS:
            self.fields, self._in_body, self._has_length = [], False, False
            return
        self._complete = True
        # This can only be asked now, because the parser then starts anew.
        self._keep_alive = self._parser.should_keep_alive() and self.status != _SWITCHING_PROTOCOLS

    # ---- progress

    def _note_progress(self, nbytes: int, parts: int) -> None:
        """Check the limits, and join the parts of the body that have come together."""
        if self._header_bytes > _HEADER_BYTES or len(self.fields) > _HEADER_FIELDS:
            msg = f"it has more than {_HEADER_BYTES:,} bytes or {_HEADER_FIELDS} lines of headers"
            raise InvalidHTTPError(msg)
        if self._has_nul:
            raise InvalidHTTPError("a header holds a NUL")
        if parts:
            if parts > 1:  # a server may send each byte as a chunk of its own
                self._pieces[-parts:] = [b"".join(self._pieces[-parts:])]
            self._blank = 0
            if self.encoding:
                self._limits.hold("wire_bytes", self._size)
            else:
                self._limits.hold_plain(self._size)
        elif not self._complete:
            self._blank += nbytes
            if self._blank > _HEADER_BYTES:
                raise InvalidHTTPError(f"it has {_HEADER_BYTES:,} bytes without a part of the body")

    def _pass_on(self) -> None:
        """Pass on what has arrived or wake the task that waits, and close what is useless."""
        sink = self._sink
        if sink is not None:
            self._push(sink)
        if self._complete or (self._sink is None and self._in_body and not self._whole):
            self._wake()
        if self._complete and not self._keep_alive:
            self._transport.abort()
        elif self._unread > _UNREAD_BYTES and not (self._whole or self._complete or self._paused):
            self._paused = True
            self._transport.pause_reading()

    def _push(self, sink: Sink) -> None:
        """Pass on the pieces, until the sink has enough."""
        try:
            while self._sink is not None and self._pieces:
                if not sink(self._take_piece()):
                    self._sink = None
        except Exception as error:  # noqa: BLE001 - raised by `feed`
            self._sink = None
            self._wake(error)

    def _wake(self, error: Exception | None = None) -> None:
        """Let the task go on that waits for something, or raise the error in it."""
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _fail(self, error: Exception) -> None:
        self._complete, self._error = True, error
        self.abort()
        self._wake(error)


def _parser(connection: HTTP1Connection) -> Parser:
    parser = Parser(connection)
    # What real servers do wrong without harm; aiohttp accepts the same.
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser


def _lower(name: bytes) -> bytes:
    return name.strip().lower()


def _chained(error: HTTP1Error, cause: BaseException | None) -> HTTP1Error:
    error.__cause__ = cause
    return error
