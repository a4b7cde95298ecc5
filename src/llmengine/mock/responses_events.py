"""The event stream of the responses API: every event that leads to a given response."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.text import tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON


def events(response: JSON) -> list[JSON]:
    """The events in order, numbered from 0, from ``response.created`` to the terminal one."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    begun["incomplete_details"] = None
    found: list[JSON] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(response["output"]):
        found += _item_events(place, item)
    found.append({"type": f"response.{response['status']}", "response": response})
    numbers = count()
    return [{**e, "sequence_number": next(numbers)} for e in found]


def _item_events(place: int, item: JSON) -> Iterator[JSON]:
    """An item from its empty beginning to its whole."""
    where = {"output_index": place}
    yield {"type": "response.output_item.added", **where, "item": _empty(item)}
    inside = {"item_id": item["id"], **where}
    if item["type"] == "function_call":
        yield from _arguments(inside, item["arguments"])
    for index, part in enumerate(item.get("content", ())):
        yield from _part_events({**inside, "content_index": index}, part)
    yield {"type": "response.output_item.done", **where, "item": item}


def _empty(item: JSON) -> JSON:
    begun = {**item, "status": "in_progress"}
    return begun | {k: v for k, v in {"content": [], "arguments": ""}.items() if k in item}


def _arguments(inside: JSON, arguments: str) -> Iterator[JSON]:
    for token in tokenize(arguments):
        yield {"type": "response.function_call_arguments.delta", **inside, "delta": token}
    yield {"type": "response.function_call_arguments.done", **inside, "arguments": arguments}


def _part_events(inside: JSON, part: JSON) -> Iterator[JSON]:
    kind = part["type"]
    field = "refusal" if kind == "refusal" else "text"
    logprobs: JSON = {"logprobs": []} if kind == "output_text" else {}
    yield {
        "type": "response.content_part.added",
        **inside,
        "part": {**part, field: "", **logprobs},
    }
    entries = iter(part.get("logprobs", ()))
    for token in tokenize(part[field]):
        entry = {"logprobs": [e for e in (next(entries, None),) if e]} if logprobs else {}
        yield {"type": f"response.{kind}.delta", **inside, "delta": token, **entry}
    whole = {"logprobs": part["logprobs"]} if logprobs else {}
    yield {"type": f"response.{kind}.done", **inside, field: part[field], **whole}
    yield {"type": "response.content_part.done", **inside, "part": part}
