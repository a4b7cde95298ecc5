"""Streams that end wrongly, and answers of another kind than the request asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..fault import ANSWER, LONGER, Fault
from ..server import Forever, chunk, head, reply, true_answer
from ..wires import NDJSON, Asked, chat_chunk, encode
from .connections import LATE, LATE_AND_CUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..server import Script

BAD, PARTIAL = "UnexpectedResponseError", "UnexpectedResponseError partial"
RETRIED = "UnexpectedResponseError retried"
CUT = "StreamIncompleteError partial"
NOTHING = "StreamIncompleteError retried"
FAILED = "InternalServerError partial"
MILLION = 1_000_000
# Formats whose last event ends the answer.
_ENDED = {f"{wire} stream": ANSWER for wire in ("ollama", "responses", "messages")}


def _streamed(
    name: str,
    body_of: Callable[[Asked], bytes],
    stream: str = ANSWER,
    whole: str = RETRIED,
    **fields: Any,
) -> Fault:
    """A stream with that body, for any request."""

    def script(asked: Asked) -> Script:
        streamed = Asked(asked.wire, stream=True, text=asked.text)
        body = body_of(streamed)
        first = streamed.first if body.startswith(streamed.first) else body[:1]
        rest = [chunk(body[len(first) :])] if len(body) > len(first) else []
        return [
            head(streamed, framing="chunked") + (chunk(first) if first else b""),
            b"".join([*rest, chunk(b"")]),
        ]

    return Fault(name, script, whole, stream, **fields)


def _endless(
    name: str, start: Callable[[Asked], bytes], more: Callable[[Asked], bytes], stream: str
) -> Fault:
    """A stream that never ends, although data keeps coming."""

    def script(asked: Asked) -> Script:
        streamed = Asked(asked.wire, stream=True, text=asked.text)
        return [head(streamed, framing="close") + start(streamed), Forever(more(streamed), 0.02)]

    return Fault(name, script, LATE, stream, everywhere=True, by_clock="total")


def _idle(asked: Asked) -> bytes:
    """Data that keeps a stream open without content."""
    return b"\n" if asked.wire.stream_type == NDJSON else b": ping\n\n"


def _error(asked: Asked) -> bytes:
    """The event with which a server reports its failure."""
    event = {
        "chat": {"error": {"message": "out of memory", "type": "server_error", "code": 500}},
        "responses": {"type": "error", "code": "server_error", "message": "out of memory"},
        "ollama": {"error": "out of memory"},
        "messages": {"type": "error", "error": {"type": "api_error", "message": "out of memory"}},
    }[asked.wire.name]
    return asked.framed([event], b"")


def _as_other(asked: Asked) -> bytes:
    """The events in the other framing: lines for server-sent events, and the reverse."""
    before = b"data: " if asked.wire.stream_type == NDJSON else b""
    return b"".join(before + encode(event) + b"\n\n" for event in asked.events)


def _with_fields(asked: Asked) -> bytes:
    """Every event with all fields of the format, not only its data."""
    fields = b"event: message\nid: 7\nretry: 100\n: a comment\n"
    return b"".join(fields + asked.framed([event], b"") for event in asked.events) + asked.wire.end


def _over_lines(asked: Asked) -> bytes:
    """Each event split into several lines."""
    first = b"" if asked.wire.stream_type == NDJSON else b"data: "
    pretty = [json.dumps(event, indent=1).encode().split(b"\n") for event in asked.events]
    events = [b"".join(first + line + b"\n" for line in lines) + b"\n" for lines in pretty]
    return b"".join(events) + asked.wire.end


def _text_event(asked: Asked) -> dict[str, Any]:
    """The first event that has text."""
    return asked.events[{"responses": 1, "messages": 2}.get(asked.wire.name, 0)]


def _finish(asked: Asked) -> list[dict[str, Any]]:
    """The events that end the answer."""
    return asked.events[2:3] if asked.wire.name == "chat" else asked.events[-1:]


def _large(asked: Asked) -> str:
    return asked.text + "x" * 4_000_000


def _calls(
    ids: tuple[str | None, str | None], indexes: tuple[int, int]
) -> Callable[[Asked], Script]:
    """An answer that calls two tools."""

    def script(asked: Asked) -> Script:
        function = {"name": "f", "arguments": "{}"}
        if asked.wire.name == "ollama":
            calls = [{"function": {"name": "f", "arguments": {}}} for _ in ids]
            body = {
                **asked.answer,
                "message": {"role": "assistant", "content": "", "tool_calls": calls},
            }
            return [reply(asked, asked.framed([body]) if asked.stream else encode(body))]
        if asked.wire.name == "responses":
            return [_response_calls(asked, ids, indexes)]
        if asked.wire.name == "messages":
            return [_message_calls(asked, ids, indexes)]
        calls = [
            {"index": index, "type": "function", "function": function} | ({"id": i} if i else {})
            for i, index in zip(ids, indexes, strict=True)
        ]
        if asked.stream:
            events = [chat_chunk({"tool_calls": [call]}) for call in calls]
            return [reply(asked, asked.framed([*events, chat_chunk({}, "tool_calls")]))]
        answer = asked.answer
        answer["choices"][0]["message"] = {
            "role": "assistant",
            "content": None,
            "tool_calls": calls,
        }
        return [reply(asked, encode(answer))]

    return script


def _response_calls(
    asked: Asked, ids: tuple[str | None, str | None], indexes: tuple[int, int]
) -> bytes:
    items = [
        {
            "type": "function_call",
            "call_id": i or place,
            "name": "f",
            "arguments": "{}",
            "id": f"fc_{place}",
        }
        for place, i in zip(("call_0", "call_1"), ids, strict=True)
    ]
    answer = {**asked.answer, "output": items}
    if not asked.stream:
        return reply(asked, encode(answer))
    events: list[dict[str, Any]] = [asked.events[0]]
    for item, index in zip(items, indexes, strict=True):
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "arguments": ""}
        events += [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            {"type": "response.function_call_arguments.delta", "delta": "{}", **place},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
    return reply(asked, asked.framed([*events, {"type": "response.completed", "response": answer}]))


def _message_calls(
    asked: Asked, ids: tuple[str | None, str | None], indexes: tuple[int, int]
) -> bytes:
    blocks = [
        {"type": "tool_use", "name": "f", "input": {}} | ({"id": i} if i else {}) for i in ids
    ]
    if not asked.stream:
        return reply(asked, encode({**asked.answer, "content": blocks}))
    events = [
        {"type": kind, "index": index, "content_block": block}
        for block, index in zip(blocks, indexes, strict=True)
        for kind in ("content_block_start", "content_block_stop")
    ]
    return reply(asked, asked.framed([asked.events[0], *events, *asked.events[-2:]]))


def _second_choice(asked: Asked) -> Script:
    """A second choice that was not asked for, with its pieces between the others."""
    if asked.wire.name != "chat":
        return true_answer(asked)  # they have no choices
    other = Asked(asked.wire, asked.stream, "another")
    if asked.stream:
        theirs = [chat_chunk({"content": "another"}, index=1), chat_chunk({}, "stop", index=1)]
        ours = asked.events
        return [reply(asked, asked.framed([ours[0], theirs[0], ours[1], theirs[1], *ours[2:]]))]
    answer = asked.answer
    answer["choices"].append({**other.answer["choices"][0], "index": 1})
    return [reply(asked, encode(answer))]


def _in_a_character(asked: Asked) -> Script:
    """A character of three bytes, split at each place by the chunks."""
    body = asked.body.replace(b"answer", "ans\u20acwer".encode())
    pieces = body.replace(b"\xe2\x82\xac", b"\xe2|\x82|\xac").split(b"|")
    chunks = b"".join(chunk(piece) for piece in [*pieces, b""])
    return [head(asked, framing="chunked") + chunks]


STREAMS: tuple[Fault, ...] = (
    _streamed("a stream, whatever was asked", lambda a: a.body),
    Fault(
        "a whole body, whatever was asked",
        lambda a: [reply(Asked(a.wire, stream=False, text=a.text))],
        stream=PARTIAL,
    ),
    _streamed("no mark of the end", lambda a: a.framed(a.events, b"")),
    _streamed("no last event", lambda a: a.first, CUT, unless={"ollama whole": BAD}),
    _streamed(
        "the mark of the end first",
        lambda a: a.wire.end + a.body,
        NOTHING,
        unless=_ENDED,
    ),
    _streamed("text after the mark of the end", lambda a: a.body + a.framed([_text_event(a)], b"")),
    _streamed("CRLF", lambda a: a.body.replace(b"\n", b"\r\n")),
    _streamed("CR", lambda a: a.body.replace(b"\n", b"\r"), unless={"ollama stream": NOTHING}),
    _streamed("no line end at the end", lambda a: a.body.rstrip(b"\n")),
    _streamed("no blank line at the end", lambda a: a.body.rstrip(b"\n") + b"\n"),
    _streamed("no blank after data:", lambda a: a.body.replace(b"data: ", b"data:")),
    _streamed("cut in a character", lambda a: a.first + a.wire.frame(b'{"a": "\xe2\x82')[:-2], CUT),
    Fault(
        "a character in three chunks",
        _in_a_character,
        says=lambda t: t.replace("answer", "ans\u20acwer"),
    ),
    _streamed("event, id, retry and comments", _with_fields, unless={"ollama stream": RETRIED}),
    _streamed("events over several lines", _over_lines, unless={"ollama stream": RETRIED}),
    _streamed(
        "lines where events belong, and the reverse",
        _as_other,
        BAD,
        unless={"ollama stream": RETRIED},
    ),
    _endless("keep-alives for ever", lambda _: b"", _idle, LATE),
    _endless("keep-alives for ever after some text", lambda a: a.first, _idle, LATE_AND_CUT),
    _endless(
        "text for ever", lambda a: a.first, lambda a: a.framed([_text_event(a)], b""), LATE_AND_CUT
    ),
    _streamed(
        "a million keep-alives",
        lambda a: _idle(a) * MILLION + a.body,
        unless={"ollama stream": "AnswerTooLargeError"},
    ),
    _streamed("a million empty events", lambda a: b"data:\n\n" * MILLION + a.body, RETRIED),
    Fault(
        "a text of 4 MB",
        lambda a: [reply(a, Asked(a.wire, a.stream, _large(a)).body, framing="chunked")],
        says=lambda t: t + "x" * 4_000_000,
    ),
    _streamed(
        "an error event first",
        _error,
        "InternalServerError retried",
        unless={"ollama whole": "InternalServerError retried"},  # a line is a whole body too
    ),
    _streamed("an error event after some text", lambda a: a.first + _error(a), FAILED),
    _streamed(
        "an error event after the finish",
        lambda a: a.framed(a.events, b"") + _error(a) + a.wire.end,
        FAILED,
        unless=_ENDED,  # they have ended by then
    ),
    _streamed(
        "text after the finish",
        lambda a: a.framed([*a.events[:-1], *_finish(a), _text_event(a)]),
        LONGER,
        unless=_ENDED,
    ),
    _streamed(
        "a second finish",
        lambda a: a.framed([*a.events[:-1], *_finish(a), *_finish(a), a.events[-1]]),
    ),
    Fault("a second choice, in between", _second_choice),
    Fault("two tool calls", _calls(("a", "b"), (0, 1)), says=lambda _: "", calls=2),
    Fault("two tool calls under one index", _calls(("a", "b"), (0, 0)), says=lambda _: "", calls=2),
    Fault(
        "two tool calls under one index, without ids",
        _calls((None, None), (0, 0)),
        says=lambda _: "",
        calls=2,
    ),
    Fault(
        "one choice where three were asked for",
        true_answer,
        PARTIAL,
        PARTIAL,
        everywhere=True,
        sampling={"n": 3},
        unless={
            "prompts ollama": "InvalidRequestError",
            "prompts messages": "InvalidRequestError",
            "prompts responses": "InvalidRequestError",
            "prompts ollama_api/v1": "InvalidRequestError",
            "batch": BAD,
            "batch responses": ANSWER,  # which has no choices
        },
    ),
)
