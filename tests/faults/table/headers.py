"""Status lines and headers that are wrong, huge, old or of another protocol."""

from __future__ import annotations

from ..fault import ANSWER, Fault
from ..server import Act, Forever, head, reply
from .connections import BROKEN, LATE

RETRIED = "UnexpectedResponseError retried"
_H2_SETTINGS = bytes.fromhex("000000040000000000")


HEADERS: tuple[Fault, ...] = (
    Fault(
        "a header of 1 MB", lambda a: [reply(a, None, "X-Long: " + "x" * 1_000_000)], BROKEN, BROKEN
    ),
    Fault(
        "10,000 headers",
        lambda a: [reply(a, None, *(f"X-{i}: y" for i in range(10_000)))],
        BROKEN,
        BROKEN,
        unless={"sdk": ANSWER},
    ),
    Fault(
        "headers for ever",
        lambda a: [head(a)[:-2], Forever(b"X-More: y\r\n" * 500)],
        BROKEN,
        BROKEN,
    ),
    Fault("a header without a colon", lambda a: [reply(a, None, "nonsense")], BROKEN, BROKEN),
    Fault("a header with a NUL", lambda a: [reply(a, None, "X-Nul: a\0b")], BROKEN, BROKEN),
    Fault("a header that is not ASCII", lambda a: [reply(a, None, "X-Name: caf\xe9")]),
    Fault(
        "a blank before the colon",
        lambda a: [reply(a).replace(b"Content-Length:", b"Content-Length :")],
        unless={"sdk": BROKEN},
    ),
    Fault("a header over two lines", lambda a: [reply(a, None, "X-Folded: a\r\n b")]),
    Fault("headers in capitals", lambda a: [reply(a).replace(b"Content-", b"CONTENT-")]),
    Fault("a media type in capitals", lambda a: [reply(a, type=a.type.title())]),
    Fault(
        "a media type with parameters", lambda a: [reply(a, type=f'{a.type}; charset="utf-8"; v=1')]
    ),
    Fault("no Content-Type", lambda a: [reply(a, type="")], stream=RETRIED),
    Fault(
        "a wrong Content-Type",
        lambda a: [reply(a, type="text/html")],
        stream=RETRIED,
    ),
    Fault("another charset", lambda a: [reply(a, type=f"{a.type}; charset=utf-16")]),
    Fault("Set-Cookie", lambda a: [reply(a, None, "Set-Cookie: session=1; Path=/")]),
    Fault(
        "HTTP/1.0",
        lambda a: [reply(a, framing="close").replace(b"HTTP/1.1", b"HTTP/1.0"), Act.CLOSE],
    ),
    Fault("HTTP/0.9", lambda a: [a.body, Act.CLOSE], BROKEN, BROKEN),
    Fault("HTTP/2", lambda _: [_H2_SETTINGS, Act.CLOSE], BROKEN, BROKEN),
    Fault(
        "HTTP/3.7",
        lambda a: [reply(a).replace(b"HTTP/1.1", b"HTTP/3.7")],
        BROKEN,
        BROKEN,
        unless={"sdk": ANSWER},
    ),
    Fault("another protocol", lambda _: [b"SSH-2.0-OpenSSH_9.9\r\n", Act.CLOSE], BROKEN, BROKEN),
    Fault("a status that is not a number", lambda a: [reply(a, status="OK 200")], BROKEN, BROKEN),
    Fault("no reason phrase", lambda a: [reply(a, status="200")]),
    Fault("lines that end in LF", lambda a: [head(a).replace(b"\r\n", b"\n") + a.body]),
    Fault("a blank line before the status", lambda a: [b"\r\n" + reply(a)], unless={"sdk": BROKEN}),
    Fault("100 Continue first", lambda a: [b"HTTP/1.1 100 Continue\r\n\r\n" + reply(a)]),
    Fault(
        "103 Early Hints first",
        lambda a: [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + reply(a)],
    ),
    Fault(
        "100 Continue for ever",
        lambda _: [Forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)],
        LATE,
        LATE,
        everywhere=True,
        by_clock="total",
    ),
    Fault(
        "101 Switching Protocols",
        lambda a: [
            head(a, "Upgrade: h2c", status="101 Switching Protocols", framing="none"),
            Act.CLOSE,
        ],
        "UnexpectedResponseError",
        "UnexpectedResponseError",
        unread=True,
        unless={"sdk": BROKEN},
    ),
)
