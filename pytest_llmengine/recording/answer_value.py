"""The value of a recorded answer: what it says, whatever the chunks and events it was sent in.

A JSON body is its value and any other body its text. A stream is ``{"events": [...]}``, in which
events that continue each other are joined: two streams with the same text, the same tool calls and
the same usage have the same value, however the server has cut them into events and chunks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmengine.dialects.framing import NDJSONDecoder, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.recording.cassette import RecordedAnswer

# Members whose texts are pieces of one text, in OpenAI's, Anthropic's and Ollama's streams.
_PIECES = frozenset(
    {
        "arguments",
        "content",
        "delta",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "response",
        "signature",
        "text",
        "thinking",
    }
)
# Members that only number or pad the events of a stream.
_OF_EVENTS = frozenset({"obfuscation", "sequence_number"})
_SSE, _NDJSON = "text/event-stream", "ndjson"


def answer_value(answer: RecordedAnswer) -> Any:
    """The JSON value of the body, its text, or the joined events of a stream."""
    if is_stream(answer):
        return {"events": list(_joined(map(parsed, events_of(answer))))}
    return parsed(answer.body)


def parsed(data: bytes) -> Any:
    """The JSON value of these bytes, or their text if they are not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "backslashreplace")


def is_stream(answer: RecordedAnswer) -> bool:
    """Whether the answer is a stream of server-sent events or of lines of JSON."""
    kind = media_type(answer)
    return kind == _SSE or _NDJSON in kind


def media_type(answer: RecordedAnswer) -> str:
    """The media type of the answer in lower case, without parameters; "" if it has none."""
    given = next((value for name, value in answer.headers if name == "content-type"), "")
    return given.partition(";")[0].strip().lower()


def events_of(answer: RecordedAnswer) -> list[bytes]:
    """The data of each event of a stream, or its lines."""
    decoder = _decoder(answer)
    return [*decoder.feed(answer.body), *decoder.finish()]


def timed_events(answer: RecordedAnswer) -> Iterator[tuple[bytes, int]]:
    """The data of each event of a stream, with the time of the chunk that completed it, in ms."""
    decoder, last = _decoder(answer), 0
    for data, last in answer.timeline.pieces(answer.body):
        yield from ((event, last) for event in decoder.feed(data))
    yield from ((event, last) for event in decoder.finish())


def _decoder(answer: RecordedAnswer) -> SSEDecoder | NDJSONDecoder:
    return SSEDecoder() if media_type(answer) == _SSE else NDJSONDecoder()


def _joined(events: Iterable[Any]) -> Iterator[Any]:
    """The events, with those that continue the one before them joined to it."""
    last: Any = None
    for event in events:
        if not isinstance(event, dict):
            new = event
        elif event.get("type") == "ping":
            continue
        else:
            new = {name: value for name, value in event.items() if name not in _OF_EVENTS}
        if last is not None and _continues(last, new):
            last = _merged(last, new)
            continue
        if last is not None:
            yield last
        last = new
    if last is not None:
        yield last


def _continues(last: Any, new: Any) -> bool:
    """Whether an event continues the one before it.

    Chunks of chat completions and lines of Ollama have no type and all continue the first. Events
    with a type continue one another if they are deltas of the same part.
    """
    if not (isinstance(last, dict) and isinstance(new, dict)) or {"error"} & (last | new).keys():
        return False
    if "type" not in new and "type" not in last:
        return True
    return str(new.get("type")).endswith("delta") and _part(last) == _part(new)


def _part(event: dict[str, Any]) -> dict[str, Any]:
    """What a delta belongs to: its type and its ids and indexes."""
    delta = event.get("delta")
    named = {name: value for name, value in event.items() if isinstance(value, str | int)}
    named.pop("delta", None)
    return named | ({"delta_type": delta.get("type")} if isinstance(delta, dict) else {})


def _merged(old: Any, new: Any, name: str = "") -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: _merged(old[key], new[key], key) for key in old.keys() & new.keys()}
        return {**old, **new, **both}
    if isinstance(old, list) and isinstance(new, list):
        return _merged_lists(old, new)
    if isinstance(old, str) and isinstance(new, str) and name in _PIECES:
        return old + new
    return old if new is None else new


def _merged_lists(old: list[Any], new: list[Any]) -> list[Any]:
    """The elements with the same index merged, and the others one after the other."""
    result = list(old)
    places = {item["index"]: n for n, item in enumerate(old) if _has_index(item)}
    for item in new:
        place = places.get(item["index"]) if _has_index(item) else None
        if place is None:
            result.append(item)
        else:
            result[place] = _merged(result[place], item)
    return result


def _has_index(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("index"), int)
