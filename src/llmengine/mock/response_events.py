"""The events of a streamed response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.response_store import pending
from llmengine.mock.text import tokenize
from llmengine.mock.wire import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON

_OBFUSCATED_SIZE = 16


def events(response: JSON, *, obfuscated: bool = False) -> list[JSON]:
    """All events of a response, numbered from 0, from ``response.created`` to the last one.

    With `obfuscated` each delta has random characters that hide the length of its text.
    """
    first = "queued" if response["background"] else "in_progress"
    found: list[JSON] = [{"type": "response.created", "response": pending(response, first)}]
    if response["background"]:
        found.append({"type": "response.queued", "response": pending(response, first)})
    started = pending(response, "in_progress")
    found.append({"type": "response.in_progress", "response": started})
    for index, item in enumerate(response["output"]):
        found += _item_events(index, item)
    found.append({"type": f"response.{response['status']}", "response": response})
    if obfuscated:
        found = [{**event, **_obfuscation(event)} for event in found]
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


def _obfuscation(event: JSON) -> JSON:
    if "delta" not in event:
        return {}
    missing = _OBFUSCATED_SIZE - len(event["delta"]) % _OBFUSCATED_SIZE
    return {"obfuscation": new_id("")[:missing]}


def _item_events(index: int, item: JSON) -> Iterator[JSON]:
    """The events of one item, from the empty item to the complete one."""
    place = {"output_index": index}
    yield {"type": "response.output_item.added", **place, "item": _empty(item)}
    place_of_part = {"item_id": item["id"], **place}
    if item["type"] == "function_call":
        yield from _arguments_events(place_of_part, item)
    for summary_index, part in enumerate(item.get("summary", ())):
        yield from _summary_events({**place_of_part, "summary_index": summary_index}, part)
    for content_index, part in enumerate(item.get("content", ())):
        yield from _part_events({**place_of_part, "content_index": content_index}, part)
    yield {"type": "response.output_item.done", **place, "item": item}


_UNSENT: JSON = {"content": [], "summary": [], "arguments": ""}


def _empty(item: JSON) -> JSON:
    started = {**item, "status": "in_progress"}
    return started | {k: v for k, v in _UNSENT.items() if k in item}


def _arguments_events(place: JSON, call: JSON) -> Iterator[JSON]:
    kind = "response.function_call_arguments"
    for token in tokenize(call["arguments"]):
        yield {"type": f"{kind}.delta", **place, "delta": token}
    whole = {"name": call["name"], "arguments": call["arguments"]}
    yield {"type": f"{kind}.done", **place, **whole}


def _summary_events(place: JSON, part: JSON) -> Iterator[JSON]:
    kind = "response.reasoning_summary"
    yield {"type": f"{kind}_part.added", **place, "part": {**part, "text": ""}}
    for token in tokenize(part["text"]):
        yield {"type": f"{kind}_text.delta", **place, "delta": token}
    yield {"type": f"{kind}_text.done", **place, "text": part["text"]}
    yield {"type": f"{kind}_part.done", **place, "part": part}


def _part_events(place: JSON, part: JSON) -> Iterator[JSON]:
    kind = part["type"]
    field = "refusal" if kind == "refusal" else "text"
    logprobs: JSON = {"logprobs": []} if kind == "output_text" else {}
    yield {
        "type": "response.content_part.added",
        **place,
        "part": {**part, field: "", **logprobs},
    }
    entries = iter(part.get("logprobs", ()))
    for token in tokenize(part[field]):
        entry = {"logprobs": [e for e in (next(entries, None),) if e]} if logprobs else {}
        yield {"type": f"response.{kind}.delta", **place, "delta": token, **entry}
    whole = {"logprobs": part["logprobs"]} if logprobs else {}
    yield {"type": f"response.{kind}.done", **place, field: part[field], **whole}
    yield {"type": "response.content_part.done", **place, "part": part}
