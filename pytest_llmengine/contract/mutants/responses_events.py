"""Mutants of resp.stream: events lost, moved or changed, and streams that differ from the whole."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, events, replaced
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import EventsHook


def _first(kind: str, found: list[JSON]) -> int:
    """The index of the first event of a type; of the last event if there is none."""
    kinds = [event["type"] for event in found]
    return kinds.index(f"response.{kind}") if f"response.{kind}" in kinds else -1


def _lost(kind: str) -> EventsHook:
    def edit(found: list[JSON]) -> list[JSON]:
        index = _first(kind, found)
        return found[:index] + found[index + 1 :]

    return events(edit)


def _early(kind: str) -> EventsHook:
    """The first event of the type comes before the item begins."""

    def edit(found: list[JSON]) -> list[JSON]:
        moved = found[_first(kind, found)]
        rest = [event for event in found if event is not moved]
        return [*rest[:2], moved, *rest[2:]]

    return events(edit)


def _edited(kind: str, edit: Callable[[JSON], object]) -> EventsHook:
    def hook(found: list[JSON]) -> list[JSON]:
        edit(found[_first(kind, found)])
        return found

    return events(hook)


def _last_response(edit: Callable[[JSON], object]) -> EventsHook:
    def hook(found: list[JSON]) -> list[JSON]:
        edit(found[-1]["response"])
        return found

    return events(hook)


_DELTAS = {
    "text": ("output_text", "text"),
    "call": ("function_call_arguments", "arguments"),
    "reasoning": ("reasoning_text", "text"),
}
for _kind, (_family, _field) in _DELTAS.items():
    _rule = f"resp.stream.{_kind}"
    mutant(f"{_rule}.order", Behaviour("no item", events=_lost("output_item.added")))
    mutant(f"{_rule}.order", Behaviour("item not closed", events=_lost("output_item.done")))
    mutant(f"{_rule}.order", Behaviour("early delta", events=_early(f"{_family}.delta")))
    mutant(f"{_rule}.sums", Behaviour("a delta lost", events=_lost(f"{_family}.delta")))
    mutant(f"{_rule}.sums", Behaviour("no whole", events=_lost(f"{_family}.done")))
    _other = _edited(f"{_family}.done", methodcaller("update", {_field: "other"}))
    mutant(f"{_rule}.sums", Behaviour("another whole", events=_other))
    mutant(
        f"{_rule}.items",
        Behaviour("output lost", events=_last_response(lambda r: r["output"].pop())),
    )
    mutant(
        f"{_rule}.items",
        Behaviour(
            "another id",
            events=_edited(
                "output_item.done", lambda e: e.update(item={**e["item"], "id": "other"})
            ),
        ),
    )
mutant("resp.stream.text.order", Behaviour("no part", events=_lost("content_part.added")))
mutant("resp.stream.text.order", Behaviour("part not closed", events=_lost("content_part.done")))

mutant(
    "resp.stream.snapshots",
    Behaviour("another id", events=_edited("created", lambda e: e["response"].update(id="other"))),
)
mutant(
    "resp.stream.snapshots",
    Behaviour(
        "completed from the start",
        events=_edited("in_progress", lambda e: e["response"].update(status="completed")),
    ),
)


def _shorter(response: JSON) -> None:
    part = response["output"][-1]["content"][0]
    part["text"] = part["text"][:-1]


mutant("resp.stream.equals_whole", Behaviour("text cut", events=_last_response(_shorter)))
mutant(
    "resp.stream.equals_whole",
    Behaviour(
        "another prompt",
        events=_last_response(lambda r: r["usage"].update(input_tokens=1)),
    ),
)
mutant("resp.stream.usage", Behaviour("no usage", events=_last_response(lambda r: r.pop("usage"))))
mutant(
    "resp.stream.usage",
    Behaviour("wrong total", events=_last_response(lambda r: r["usage"].update(total_tokens=1))),
)
mutant(
    "resp.stream.event_name",
    Behaviour("no names", wire=replaced(b"event: response.created\n", b"")),
)
mutant("resp.stream.unasked", Behaviour("always", request=body(lambda b: b.update(stream=True))))


def _as_json(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.headers["content-type"] = "application/json"
    return reply


def _error_in_stream(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status >= 400 and b'"stream": true' in call.body:
        reply.status = 200
        reply.chunks = [b"event: error\ndata: " + b"".join(reply.chunks) + b"\n\n"]
    return reply


mutant("resp.stream.content_type", Behaviour("json", wire=_as_json))
mutant("resp.stream.error_first", Behaviour("error in a stream", wire=_error_in_stream))
