"""Connections that break, stall or speak another protocol, in each phase of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fault import Fault
from ..server import Act, Forever, chunk, head, reply

if TYPE_CHECKING:
    from faults.wires import Asked

BROKEN = "APIConnectionError retried"
CUT = "APIConnectionError partial"
LATE = "APITimeoutError"
LATE_AND_CUT = "APITimeoutError partial"

_HTTP_400 = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TLS_ALERT = bytes.fromhex("15030100020246")  # fatal, protocol_version


def _half_head(asked: Asked) -> bytes:
    return head(asked)[:40]


def _half_body(asked: Asked) -> bytes:
    return head(asked) + asked.first


def _broken(where: str, act: Act) -> tuple[Fault, ...]:
    """One way to break off, in each phase."""
    return (
        Fault(f"{where} before the headers", lambda _: [act], BROKEN, BROKEN),
        Fault(f"{where} in the status line", lambda _: [b"HTTP/1.1 20", act], BROKEN, BROKEN),
        Fault(f"{where} in the headers", lambda a: [_half_head(a), act], BROKEN, BROKEN),
        Fault(f"{where} in the body", lambda a: [_half_body(a), act], BROKEN, CUT),
        Fault(f"{where} after the body", lambda a: [reply(a, None, "Connection: close"), act]),
        Fault(
            f"{where} after the body, on a kept-alive connection",
            lambda a: [reply(a), act],
            unread=True,
        ),
    )


CONNECTIONS: tuple[Fault, ...] = (
    Fault(
        "no server listens",
        lambda _: [],
        BROKEN,
        BROKEN,
        everywhere=True,
        reads=False,
        listens=False,
    ),
    Fault(
        "reset when accepted", lambda _: [Act.RESET], BROKEN, BROKEN, everywhere=True, reads=False
    ),
    Fault(
        "closed when accepted", lambda _: [Act.CLOSE], BROKEN, BROKEN, everywhere=True, reads=False
    ),
    Fault(
        "TLS to a server without TLS",
        lambda _: [_HTTP_400, Act.CLOSE],
        BROKEN,
        BROKEN,
        everywhere=True,
        reads=False,
        scheme="https",
    ),
    Fault(
        "plain HTTP to a server with TLS",
        lambda _: [_TLS_ALERT, Act.CLOSE],
        BROKEN,
        BROKEN,
        everywhere=True,
        reads=False,
    ),
    Fault(
        "TLS that is never answered",
        lambda _: [Act.WAIT],
        "APITimeoutError retried",
        "APITimeoutError retried",
        everywhere=True,
        reads=False,
        scheme="https",
        by_clock="connect",
    ),
    Fault(
        "never reads the request",
        lambda _: [Act.WAIT],
        LATE,
        LATE,
        everywhere=True,
        reads=False,
        by_clock="total",
    ),
    *_broken("reset", Act.RESET),
    *_broken("closed", Act.CLOSE),
    *_broken("half closed", Act.HALF_CLOSE),
    *(
        Fault(name, script, whole, stream, everywhere=True, by_clock="total")
        for name, script, whole, stream in (
            ("never answers", lambda _: [Act.WAIT], LATE, LATE),
            ("stalls in the status line", lambda _: [b"HTTP/1.1 20", Act.WAIT], LATE, LATE),
            ("stalls in the headers", lambda a: [_half_head(a), Act.WAIT], LATE, LATE),
            ("stalls after the headers", lambda a: [head(a), Act.WAIT], LATE, LATE),
            ("stalls in the body", lambda a: [_half_body(a), Act.WAIT], LATE, LATE_AND_CUT),
            (
                "stalls after the body, before its last chunk",
                lambda a: [head(a, framing="chunked") + chunk(a.body), Act.WAIT],
                LATE,
                LATE_AND_CUT,
            ),
            (
                "drips headers for ever",
                lambda a: [_half_head(a) + b"\r\n", Forever(b"X-A: b\r\n", 0.02)],
                LATE,
                LATE,
            ),
            (
                "drips blanks for ever",
                lambda a: [head(a, framing="close"), Forever(b" ", 0.02)],
                LATE,
                LATE,
            ),
            (
                "drips the same text for ever",
                lambda a: [head(a, framing="close"), a.first, Forever(b" ", 0.02)],
                LATE,
                LATE_AND_CUT,
            ),
        )
    ),
)
