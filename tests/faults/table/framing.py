"""Bodies whose length is wrong, given twice or missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fault import ANSWER, Fault
from ..server import Act, Forever, Script, chunk, head, reply
from ..wires import Asked
from .connections import BROKEN, CUT, LATE, LATE_AND_CUT

if TYPE_CHECKING:
    from collections.abc import Callable


def _lengths(*values: object) -> Callable[[Asked], Script]:
    """An answer with these Content-Length headers, for any real length."""

    def script(asked: Asked) -> Script:
        lines = [f"Content-Length: {value}" for value in values]
        return [head(asked, *lines, framing="none") + asked.body]

    return script


def _chunks(asked: Asked, *chunks: bytes, more: str = "X-More: none") -> bytes:
    return head(asked, more, framing="chunked") + b"".join(chunks)


def _other(asked: Asked) -> bytes:
    """A second answer without a request."""
    twin = Asked(asked.wire, asked.stream, "an answer without a request")
    return reply(twin)


FRAMING: tuple[Fault, ...] = (
    Fault(
        "a Content-Length that is too long",
        lambda a: [head(a, length=len(a.body) + 9) + a.body, Act.CLOSE],
        BROKEN,
        CUT,
    ),
    Fault(
        "a Content-Length that is too short",
        lambda a: [head(a, length=len(a.first)) + a.body],
        BROKEN,  # llhttp reads on and finds that no answer follows
        BROKEN,
        unless={
            "sdk": "UnexpectedResponseError retried",
            "sdk stream": "StreamIncompleteError partial",
        },
    ),
    Fault("no Content-Length, then closed", lambda a: [reply(a, framing="close"), Act.CLOSE]),
    Fault(
        "no Content-Length, then open for ever",
        lambda a: [reply(a, framing="none"), Act.WAIT],
        LATE,
        LATE_AND_CUT,
        everywhere=True,
        by_clock="total",
    ),
    Fault(
        "two equal Content-Lengths",
        lambda a: _lengths(len(a.body), len(a.body))(a),
        BROKEN,
        BROKEN,
        unless={"sdk": ANSWER},
    ),
    Fault("two different Content-Lengths", lambda a: _lengths(len(a.body), 7)(a), BROKEN, BROKEN),
    Fault("a Content-Length below 0", _lengths(-5), BROKEN, BROKEN),
    Fault("a Content-Length that is not a number", _lengths("many"), BROKEN, BROKEN),
    Fault("a Content-Length of 10^20", _lengths(10**20), BROKEN, BROKEN),
    Fault(
        "a Content-Length and chunks",
        lambda a: [_chunks(a, chunk(a.body), chunk(b""), more=f"Content-Length: {len(a.body)}")],
        BROKEN,
        BROKEN,
        unless={"sdk": ANSWER},
    ),
    *(
        Fault(name, lambda a, last=last: [_chunks(a, chunk(a.first)), last], BROKEN, CUT)
        for name, last in (
            ("a chunk size that is not a number", b"zz\r\n"),
            ("a chunk size below 0", b"-5\r\n"),
            ("a chunk size of 10^40", b"f" * 33 + b"\r\n"),
            ("a chunk that is longer than its size", b"2\r\nlonger\r\n"),
        )
    ),
    Fault(
        "a chunk that is cut",
        lambda a: [_chunks(a, chunk(a.first), b"ff\r\nhalf"), Act.CLOSE],
        BROKEN,
        CUT,
    ),
    Fault("no last chunk", lambda a: [_chunks(a, chunk(a.body)), Act.CLOSE], BROKEN, CUT),
    Fault(
        "a chunk extension",
        lambda a: [_chunks(a, b"%x;a=b\r\n%b\r\n" % (len(a.body), a.body), chunk(b""))],
    ),
    Fault("a trailer", lambda a: [_chunks(a, chunk(a.body), b"0\r\nX-Trailer: yes\r\n\r\n")]),
    Fault(
        "one byte per chunk",
        lambda a: [_chunks(a, *(chunk(bytes([byte])) for byte in a.body), chunk(b""))],
    ),
    Fault(
        "an unknown Transfer-Encoding",
        lambda a: [head(a, "Transfer-Encoding: banana", framing="none") + a.body, Act.CLOSE],
        unless={"sdk": BROKEN},
    ),
    Fault("a second answer without a request", lambda a: [reply(a) + _other(a), b""]),
    Fault(
        "an answer for ever",
        lambda a: [head(a, framing="close") + a.first, Forever(b"x" * 65536)],
        "AnswerTooLargeError",
        "AnswerTooLargeError partial",
    ),
)
