"""Bodies of a 200 that are not answers, or that have a part of a wrong type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..fault import ANSWER, AS_IT_CAME, EMPTY, SHORTER, Fault
from ..server import chunk, head, reply
from ..wires import Asked, encode, set_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..server import Script

BAD, RETRIED = "UnexpectedResponseError", "UnexpectedResponseError retried"
CUT = "StreamIncompleteError retried"
PARTIAL = "UnexpectedResponseError partial"
CUT_OFF = "StreamIncompleteError partial"
DIED, STREAM_DIED = "InternalServerError retried partial", "InternalServerError partial"


def _body(name: str, body: bytes, whole: str = BAD, stream: str = BAD, **fields: Any) -> Fault:
    """A body that does not depend on the request; in a stream it is the only event."""

    def script(asked: Asked) -> Script:
        return [reply(asked, asked.wire.frame(body) if asked.stream else body)]

    return Fault(name, script, whole, stream, **fields)


def _changed(
    name: str, change: Callable[[bytes], bytes], whole: str, stream: str, **fields: Any
) -> Fault:
    """The true body, with its bytes changed."""
    return Fault(name, lambda a: [reply(a, change(a.body))], whole, stream, **fields)


def in_two_parts(asked: Asked, events: list[Any], place: int) -> Script:
    """A stream of which the events before that index are sent first."""
    start, rest = asked.framed(events[:place], b""), asked.framed(events[place:])
    return [
        head(asked, framing="chunked") + (chunk(start) if start else b""),
        chunk(rest) + chunk(b""),
    ]


def _put(field: str, new: Any, whole: str, stream: str, name: str = "", **fields: Any) -> Fault:
    """The true answer with one part replaced; in a stream, in the last event that has it."""

    def script(asked: Asked) -> Script:
        in_whole, in_event = asked.wire.fields[field]
        if not asked.stream:
            answer = asked.answer
            set_at(answer, in_whole, new)
            return [reply(asked, encode(answer))]
        events = asked.events
        places = reversed(range(len(events)))
        last = next(place for place in places if set_at(events[place], in_event, new))
        return in_two_parts(asked, events, last)

    shown = "absent" if new is ... else encode(new).decode()
    return Fault(name or f"{field}: {shown}", script, whole, stream, **fields)


def _beside(name: str, field: str, value: Any) -> Fault:
    """The true answer with one more field; a stream has it in its last event."""

    def script(asked: Asked) -> Script:
        if not asked.stream:
            return [reply(asked, encode({**asked.answer, field: value}))]
        *events, last = asked.events
        return in_two_parts(asked, [*events, {**last, field: value}], len(events))

    alone = "InternalServerError retried"
    return Fault(name, script, DIED, STREAM_DIED, unless={"ollama whole": alone, "batch": alone})


# The responses API has the reason in `status`, and Ollama need not give one.
_STATUS = {"responses": BAD, "responses stream": ANSWER}
_NO_REASON = {"ollama": ANSWER}
# Neither Ollama nor the responses API has indexes of answers; those of messages are of blocks.
_UNREAD = {"ollama": ANSWER, "responses": ANSWER, "messages whole": ANSWER, "batch": ANSWER}
# A batch file keeps the server's body, and fails only if the body is a failure.
_RAW = {"batch": AS_IT_CAME}
_DIED_IN_A_FILE = {"batch": "InternalServerError retried", "batch responses": BAD}

_PAGE = b"<!DOCTYPE html><html><title>Welcome</title></html>"

BODIES: tuple[Fault, ...] = (
    Fault("an empty body", lambda a: [reply(a, b"")], RETRIED, CUT),
    Fault(
        "a body of blanks",
        lambda a: [reply(a, b" \r\n\r\n ")],
        RETRIED,
        RETRIED,
        unless={"ollama stream": CUT},
    ),
    Fault(
        "a body that is cut",
        lambda a: [reply(a, a.first)],
        RETRIED,
        "StreamIncompleteError partial",
    ),
    _body("an HTML page", _PAGE),
    Fault("an HTML page as text/html", lambda a: [reply(a, _PAGE, type="text/html")], BAD, BAD),
    _body("an HTML page that is cut", _PAGE[:-4], RETRIED, RETRIED),
    _body("plain text", b"the model is loading", RETRIED, RETRIED),
    _body("null", b"null"),
    _body("true", b"true"),
    _body("5", b"5"),
    _body("a string", b'"an answer"'),
    _body("[]", b"[]"),
    _body("{}", b"{}"),
    _body("NaN", b"NaN"),
    _body("100,000 levels deep", b"[" * 100_000 + b"]" * 100_000),
    _body("an object 100,000 levels deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    _changed(
        "bytes that are not UTF-8",
        lambda b: b.replace(b"answer", b"\xff\xfe\xfd"),
        RETRIED,
        RETRIED,
    ),
    _changed("Latin-1", lambda b: b.replace(b"answer", b"caf\xe9"), RETRIED, RETRIED),
    _changed(
        "a byte order mark",
        lambda b: b"\xef\xbb\xbf" + b,
        RETRIED,
        ANSWER,
        unless={"ollama": RETRIED},
    ),
    _changed("UTF-16", lambda b: b.decode().encode("utf-16"), RETRIED, RETRIED),
    _changed("a lone surrogate", lambda b: b.replace(b"answer", b"\\ud800"), RETRIED, RETRIED),
    _changed(
        "control characters in a string",
        lambda b: b.replace(b"answer", b"an\0swer"),
        RETRIED,
        RETRIED,
    ),
    _changed("JSON with comments", lambda b: b.replace(b"{", b"{/* */", 1), RETRIED, RETRIED),
    _changed("a trailing comma", lambda b: b.replace(b"}", b",}", 1), RETRIED, RETRIED),
    _changed(
        "keys that come twice",
        lambda b: b.replace(b'{"', b'{"model": "x", "', 1),
        ANSWER,
        ANSWER,
    ),
    _changed(
        "text after the JSON",
        lambda b: b + b" and more",
        RETRIED,
        ANSWER,
    ),
    _body(
        "an error in a 200",
        encode({"error": {"message": "out of memory", "code": 500}}),
        "InternalServerError retried",
        "InternalServerError retried",
    ),
    _body(
        "an error as text in a 200",
        encode({"error": "out of memory"}),
        "InternalServerError retried",
        "InternalServerError retried",
    ),
    _beside("an error beside the answer", "error", {"message": "out of memory", "code": 500}),
    _put("choices", None, BAD, PARTIAL, unless={"chat stream": CUT_OFF}),
    _put(
        "choices",
        [],
        BAD,
        PARTIAL,
        unless={
            "chat stream": CUT_OFF,
            "messages whole": EMPTY,
            "responses prompts": EMPTY,
            "responses prompts stream": PARTIAL,
        },
    ),
    _put("choices", [None], BAD, PARTIAL),
    _put(
        "choices",
        {},
        BAD,
        PARTIAL,
        unless={
            "ollama": EMPTY,
            "ollama stream": ANSWER,
            "responses stream": ANSWER,
            "messages stream": CUT_OFF,
        },
    ),
    _put("choices", "x", BAD, PARTIAL),
    _put("choices", ..., BAD, PARTIAL),
    _put("first choice", [], BAD, PARTIAL, unless={"batch responses": AS_IT_CAME}),
    _put(
        "message",
        ...,
        BAD,
        PARTIAL,
        unless={
            "chat stream": SHORTER,
            "messages whole": EMPTY,
            "responses prompts": EMPTY,
            "responses prompts stream": PARTIAL,
        },
    ),
    _put("message", None, BAD, PARTIAL, unless={"chat stream": SHORTER}),
    _put("message", "x", BAD, PARTIAL),
    _put("content", 5, BAD, PARTIAL, unless=_RAW),
    _put("content", {"a": 1}, BAD, PARTIAL, unless=_RAW),
    _put("content", [5], BAD, PARTIAL, unless=_RAW),
    _put("finish_reason", "error", DIED, STREAM_DIED, unless=_STATUS | _DIED_IN_A_FILE),
    _put("finish_reason", "abort", DIED, STREAM_DIED, unless=_STATUS | _DIED_IN_A_FILE),
    _put("finish_reason", ..., PARTIAL, CUT_OFF, unless=_STATUS | _NO_REASON | {"batch": BAD}),
    _put("finish_reason", None, PARTIAL, CUT_OFF, unless=_STATUS | _NO_REASON | {"batch": BAD}),
    _put("finish_reason", "length", ANSWER, ANSWER, unless=_STATUS),
    _put("finish_reason", "banana", ANSWER, ANSWER, unless=_STATUS),
    _put("finish_reason", 5, BAD, PARTIAL, unless=_STATUS),
    _put("index", "a", BAD, PARTIAL, unless=_UNREAD),
    _put("index", -1, BAD, PARTIAL, unless=_UNREAD),
    _put("index", 7, ANSWER, CUT_OFF, unless=_UNREAD | {"messages": ANSWER}),
    _put("id", 5, ANSWER, ANSWER),
    _put("model", 5, ANSWER, ANSWER),
    _put("usage", ..., ANSWER, ANSWER),
    _put("usage", None, ANSWER, ANSWER),
    _put("usage", "5", ANSWER, ANSWER),
    _put("usage", [5], ANSWER, ANSWER),
    _put("total_tokens", "5", ANSWER, ANSWER),
    _put("total_tokens", [], ANSWER, ANSWER),
    _put("total_tokens", -1, ANSWER, ANSWER),
    _put("total_tokens", 1.5, ANSWER, ANSWER),
    _put("total_tokens", 10**400, ANSWER, ANSWER, name="total_tokens: 10^400"),
)
