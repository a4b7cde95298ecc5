"""Statuses, with and without the headers and bodies that belong to them."""

from __future__ import annotations

from ..fault import Fault
from ..server import Act, head, reply
from ..wires import encode

UNEXPECTED = "UnexpectedResponseError"
REFUSED = "BadRequestError"
SERVER = "InternalServerError retried"
LIMITED = "RateLimitError retried"
GIVEN_UP = "RateLimitError"

_PAGE = b"<html><head><title>Bad Gateway</title></head><body>nginx</body></html>"


def _error(message: str = "no", **fields: object) -> bytes:
    return encode({"error": {"message": message, "type": None, "param": None, **fields}})


def _says(status: str, outcome: str, *headers: str, body: bytes | None = None) -> Fault:
    """A status with the body of an error."""
    said = _error() if body is None else body
    what = ", ".join([status, *headers])
    return Fault(
        what,
        lambda a: [reply(a, said, *headers, status=status, type="application/json")],
        outcome,
        outcome,
    )


def _limited(outcome: str, *headers: str) -> Fault:
    status = "429 Too Many Requests"
    return Fault(
        ", ".join([status, *headers]),
        lambda a: [reply(a, _error(), *headers, status=status, type="application/json")],
        outcome,
        outcome,
    )


STATUSES: tuple[Fault, ...] = (
    *(
        Fault(status, lambda a, s=status: [reply(a, status=s)], UNEXPECTED, UNEXPECTED)
        for status in ("201 Created", "202 Accepted", "206 Partial Content")
    ),
    Fault(
        "204 No Content",
        lambda a: [head(a, status="204 No Content", framing="none", type="")],
        UNEXPECTED,
        UNEXPECTED,
    ),
    Fault(
        "205 Reset Content",
        lambda a: [head(a, status="205 Reset Content", length=0)],
        UNEXPECTED,
        UNEXPECTED,
    ),
    _says("300 Multiple Choices", UNEXPECTED),
    _says("301 Moved Permanently", UNEXPECTED, "Location: /elsewhere/chat/completions"),
    _says("302 Found", UNEXPECTED, "Location: /elsewhere/chat/completions"),
    _says("303 See Other", UNEXPECTED, "Location: /elsewhere/chat/completions"),
    Fault(
        "304 Not Modified",
        lambda a: [head(a, status="304 Not Modified", framing="none", type="")],
        UNEXPECTED,
        UNEXPECTED,
    ),
    _says("307 Temporary Redirect", UNEXPECTED, "Location: /elsewhere/chat/completions"),
    _says("308 Permanent Redirect", UNEXPECTED),
    _says("400 Bad Request", REFUSED),
    _says("401 Unauthorized", "AuthenticationError"),
    _says("402 Payment Required", "QuotaError"),
    _says("403 Forbidden", "AuthenticationError"),
    _says("404 Not Found", "NotFoundError"),
    _says("405 Method Not Allowed", REFUSED),
    _says("407 Proxy Authentication Required", REFUSED),
    _says("408 Request Timeout", "APITimeoutError retried"),
    _says("409 Conflict", REFUSED),
    _says("411 Length Required", REFUSED),
    _says("413 Content Too Large", REFUSED),
    _says("415 Unsupported Media Type", REFUSED),
    _says("422 Unprocessable Content", REFUSED),
    _says("425 Too Early", REFUSED),
    _says("431 Request Header Fields Too Large", REFUSED),
    _says("451 Unavailable For Legal Reasons", REFUSED),
    _says("499 Client Closed Request", REFUSED),
    _limited(LIMITED),
    _limited(LIMITED, "Retry-After: 0"),
    _limited(LIMITED, "Retry-After: 0.01"),
    _limited(LIMITED, "retry-after-ms: 5"),
    _limited(LIMITED, "Retry-After: -5"),
    _limited(LIMITED, "Retry-After: soon"),
    _limited(LIMITED, "Retry-After: 1e999"),
    _limited(LIMITED, "Retry-After: nan"),
    _limited(LIMITED, "Retry-After: Mon, 01 Jan 2001 00:00:00 GMT"),
    _limited(GIVEN_UP, "Retry-After: Fri, 01 Jan 2100 00:00:00 GMT"),
    _limited(GIVEN_UP, "Retry-After: 86400"),
    Fault(
        "429 for a quota",
        lambda a: [reply(a, _error(code="insufficient_quota"), status="429 Too Many Requests")],
        "QuotaError",
        "QuotaError",
        unless={"batch": "QuotaError"},
    ),
    _says("500 Internal Server Error", SERVER),
    _says("501 Not Implemented", "InternalServerError"),
    Fault(
        "502 with an HTML page",
        lambda a: [reply(a, _PAGE, status="502 Bad Gateway", type="text/html")],
        SERVER,
        SERVER,
    ),
    Fault(
        "503 with an empty body",
        lambda a: [reply(a, b"", status="503 Service Unavailable", type="")],
        SERVER,
        SERVER,
    ),
    _says("503 Service Unavailable", "InternalServerError", "Retry-After: 86400"),
    _says("504 Gateway Timeout", SERVER),
    _says("505 HTTP Version Not Supported", SERVER),
    _says("520 Web Server Returned an Unknown Error", SERVER),
    _says("529 Overloaded", SERVER),
    _says("599 Network Connect Timeout", SERVER),
    _says("600 Beyond", SERVER),
    _says("999 Beyond", SERVER),
    Fault(
        "500 that is cut",
        lambda a: [head(a, status="500 Oops", length=500) + b"{", Act.CLOSE],
        "APIConnectionError retried",
        "APIConnectionError retried",
    ),
    Fault(
        "500 with an endless body",
        lambda a: [head(a, status="500 Oops", framing="close") + b"x" * 3_000_000, Act.CLOSE],
        SERVER,
        SERVER,
    ),
)
