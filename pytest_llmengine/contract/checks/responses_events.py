"""Checks of resp.stream: the order of events, their sums, and the response at the end."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    LONG,
    TERMINAL,
    Events,
    create_response,
    need_text,
    objects,
    output_text,
    pick,
    respond,
    stream_response,
)
from pytest_llmengine.contract.facts import NO_WHOLES, lost_from
from pytest_llmengine.contract.outcomes import Fail, Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check
from pytest_llmengine.contract.response_assertions import (
    CALL,
    REASONING,
    final,
    input_tokens,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.samples import JSON
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="responses.stream", tier=EXTENDED, level=REQUIRED, since="2026-11-27")
NEEDS = {Capability.RESPONSES, Capability.STREAMING}
SPEC = "openai-openapi: ResponseStreamEvent"

# The kinds of answers: what is sent, and the type of the item that a model must make to show it.
_KINDS: dict[str, tuple[JSON, str, set[Capability]]] = {
    "text": ({}, "message", set()),
    "call": (CALL, "function_call", {Capability.TOOLS}),
    "reasoning": (REASONING, "reasoning", {Capability.REASONING}),
}


def _events(target: Target, kind: str) -> Events:
    params, item, _ = _KINDS[kind]
    events = stream_response(target, **params)
    ended = [event["item"] for event in events if isinstance(event.get("item"), dict)]
    if not any(i.get("type") == item for i in [*ended, *objects(final(events), "output")]):
        raise Unmeasured(f"this model cannot show it: it gives no {item}")
    return events


# ---- the order

_Place = tuple[object, ...]
_TEXTS = ("response.output_text.", "response.refusal.")


def _in_order(kind: str, target: Target) -> None:
    """Items and parts are opened once, closed once, and have their deltas in between."""
    opened: set[_Place] = set()
    closed: set[_Place] = set()
    for event in _events(target, kind):
        name = event["type"].removeprefix("response.")
        place = _place(event)
        if place is None:
            continue
        where = f"{name} of {quote(place)}"
        item = place[:1]
        if name in {"output_item.added", "content_part.added", "reasoning_summary_part.added"}:
            expect(place not in opened, f"{where} comes twice")
            opened.add(place)
        elif name in {"output_item.done", "content_part.done", "reasoning_summary_part.done"}:
            inner = {p for p in opened - closed if p[:1] == item and len(p) > len(place)}
            expect(not inner, f"{where} comes before the end of its parts")
            _expect_open(place, opened - closed, where)
            closed.add(place)
        else:
            of_part = event["type"].startswith(_TEXTS)
            _expect_open(place if of_part else item, opened - closed, where)
    expect(opened == closed, f"not closed: {quote(sorted(map(str, opened - closed)))}")


def _expect_open(place: _Place, opened: set[_Place], where: str) -> None:
    expect(place in opened, f"{where} comes before its start or after its end")


def _place(event: JSON) -> _Place | None:
    """The id of the item, with the number of the part; None for an event of the response."""
    if isinstance(item := event.get("item"), dict):
        return (item.get("id"),)
    if "item_id" not in event:
        return None
    for key in ("content_index", "summary_index"):
        if key in event or (key == "content_index" and "part" in event):
            return (event["item_id"], key, event.get(key, 0))
    return (event["item_id"],)


# ---- the sums

# Families of deltas: the index of their part, and the field of the whole text.
_SUMMED = {
    "output_text": ("content", "text"),
    "refusal": ("content", "refusal"),
    "reasoning_text": ("content", "text"),
    "reasoning_summary_text": ("summary", "text"),
    "function_call_arguments": ("", "arguments"),
}


def _sums(kind: str, target: Target) -> None:
    """The deltas of a part join to its done event and to the part in the final response."""
    events = _events(target, kind)
    joined: dict[tuple[str, str, int], str] = defaultdict(str)
    done: dict[tuple[str, str, int], str] = {}
    for event in events:
        family, _, step = event["type"].removeprefix("response.").rpartition(".")
        if family not in _SUMMED or step not in {"delta", "done"}:
            continue
        parts, field = _SUMMED[family]
        place = (pick(event, str, "item_id"), family, event.get(f"{parts}_index", 0))
        if step == "delta":
            joined[place] += pick(event, str, "delta")
        else:
            done[place] = pick(event, str, field)
    expect(done, "no done event of a text or of arguments has come", fact=NO_WHOLES)
    for (item_id, family, index), whole in done.items():
        text = joined[item_id, family, index]
        expect(text == whole, f"{family}: the deltas are {text!r}, the whole is {whole!r}")
        sent = _final_text(final(events), item_id, family, index)
        expect(sent == whole, f"{family}: the final response has {sent!r}, the whole is {whole!r}")
    lost = sorted(family for _, family, _ in joined.keys() - done.keys())
    expect(not lost, f"no done event for {quote(', '.join(lost))}")


def _final_text(response: JSON, item_id: str, family: str, index: int) -> str:
    parts, field = _SUMMED[family]
    found = [item for item in objects(response, "output") if item.get("id") == item_id]
    expect(found, "an item of the stream is not in the final response")
    return pick(found[0], str, *((parts, index, field) if parts else (field,)))


def _items_are_final(kind: str, target: Target) -> None:
    """The items that end are those of the final response, in the same order."""
    events = _events(target, kind)
    ended = [pick(e, dict, "item") for e in events if e["type"] == "response.output_item.done"]
    output = objects(final(events), "output")
    expect(ended == output, f"the items are {quote(ended)}, the final response has {quote(output)}")


_RULES: dict[str, tuple[Callable[[str, Target], None], str, str]] = {
    "order": (
        _in_order,
        "Each item and part of a streamed {} is opened, then has its deltas, then is closed.",
        "The accumulator of the openai SDK raises, because a delta has no part.",
    ),
    "sums": (
        _sums,
        "The deltas of a streamed {} join to its done event and to the final response.",
        "A client that shows deltas shows another text than one that reads the end.",
    ),
    "items": (
        _items_are_final,
        "The items that end in a streamed {} are those of the final response.",
        "A client that stores items as they end stores other ones than the response has.",
    ),
}

for _kind, (*_, _more) in _KINDS.items():
    for _name, (_run, _title, _breaks) in _RULES.items():
        rule(
            f"resp.stream.{_kind}.{_name}",
            title=_title.format({"text": "text", "call": "function call"}.get(_kind, _kind)),
            breaks=_breaks,
            source=SPEC,
            needs=NEEDS | _more,
        )(partial(_run, _kind))


# ---- the response in the events


@rule(
    "resp.stream.snapshots",
    source="openai-openapi: ResponseCreatedEvent",
    needs=NEEDS,
    breaks="A client that notes the id at the start cannot find the response afterwards.",
)
def snapshots(target: Target) -> None:
    """The first two events have the response of the last one, in progress and without output."""
    events = stream_response(target)
    last = final(events)
    for event in events[:2]:
        response = pick(event, dict, "response")
        status = response.get("status")
        expect(status in {"queued", "in_progress"}, f"{event['type']}: the status is {status!r}")
        expect(response.get("id") == last.get("id"), f"{event['type']}: another id than at the end")
        absent = [key for key in ("created_at", "model", "output") if key not in response]
        lost = lost_from("response", absent)
        expect(not absent, f"{event['type']}: no {', '.join(absent)}", fact=lost)
        expect(response["output"] == [], f"{event['type']}: the output is not empty")
        for key in ("created_at", "model"):
            expect(
                response[key] == last.get(key), f"{event['type']}: another {key} than at the end"
            )


@rule(
    "resp.stream.equals_whole",
    source=SPEC,
    needs=NEEDS,
    breaks="A client gets another answer as soon as it streams.",
)
def equals_whole(target: Target) -> None:
    """At temperature 0 the text and the prompt of a stream are those of a whole response."""
    whole = respond(target, LONG)
    streamed = final(stream_response(target, LONG))
    if output_text(streamed) != output_text(whole):
        if output_text(respond(target, LONG)) != output_text(whole):
            raise Unmeasured("the server answers differently each time, also at temperature 0")
        raise Fail(f"the stream has {output_text(streamed)!r}, the whole {output_text(whole)!r}")
    one, two = input_tokens(whole), input_tokens(streamed)
    expect(one == two, f"the prompt has {one} tokens, in the stream {two}")


@rule(
    "resp.stream.usage",
    source="openai-openapi: ResponseUsage",
    needs=NEEDS,
    breaks="A client that streams cannot tell what an answer costs.",
)
def usage(target: Target) -> None:
    """The last event has the usage, which adds up and counts at most max_output_tokens."""
    body = final(stream_response(target, LONG))
    if body.get("usage") is None and respond(target, LONG).get("usage") is None:
        raise Unmeasured("no response has a usage")
    counted = pick(body, dict, "usage")
    given, made, total = (
        pick(counted, int, key) for key in ("input_tokens", "output_tokens", "total_tokens")
    )
    if not made:
        need_text(output_text(body))
    expect(given > 0 < made, f"nothing counted: {quote(counted)}")
    expect(total == given + made, f"the total is not the sum: {quote(counted)}")


@rule(
    "resp.stream.event_name",
    source="openai-openapi: ResponseStreamEvent; WHATWG HTML 9.2",
    needs=NEEDS,
    breaks="A client that listens to events by name misses them.",
)
def event_name(target: Target) -> None:
    """The name of each server-sent event is its type."""
    reply = create_response(target, stream=True)
    types = [pick(value, str, "type") for value in reply.objects_or_refused()]
    expect(types[-1] in TERMINAL, f"the last event has the type {types[-1]!r}")
    names = [event.name for event in reply.events if event.data != "[DONE]"]
    other = [(n, t) for n, t in zip(names, types, strict=True) if n != t]
    expect(not other, f"name and type are {quote(other[:1])}")


@rule(
    "resp.stream.content_type",
    source="WHATWG HTML 9.2",
    needs=NEEDS,
    breaks="A browser's EventSource refuses the stream.",
)
def content_type(target: Target) -> None:
    """A stream has the type text/event-stream."""
    reply = create_response(target, stream=True)
    final(reply.objects_or_refused())
    kind = reply.content_type
    expect(kind == "text/event-stream", f"the type is {kind!r}")


@rule(
    "resp.stream.unasked",
    source="openai-openapi: CreateResponse.stream",
    needs={Capability.RESPONSES},
    breaks="A client that reads JSON gets events.",
)
def unasked(target: Target) -> None:
    """Without stream, and with stream false, a response is one JSON object."""
    for params in ({}, {"stream": False}):
        reply = create_response(target, **params)
        reply.expect_not_refused()
        kind = reply.content_type
        streamed = kind == "text/event-stream" or reply.body.startswith((b"data:", b"event:"))
        expect(not streamed, f"{quote(params)}: the answer is a stream")
        objects(reply.success(), "output")


@rule(
    "resp.stream.error_first",
    source="openai-openapi: CreateResponse.input",
    needs=NEEDS,
    breaks="A client sees a failed request as a broken stream, and retries it.",
)
def error_before_the_stream(target: Target) -> None:
    """A request with a wrong input is refused with a status, not in a stream."""
    stream_response(target)
    reply = create_response(target, 5, stream=True)
    expect(not reply.ok, f"the answer is a 200: {quote(reply.text)}")
    expect(400 <= reply.status < 500, f"{reply.status} instead of 400: {quote(reply.text)}")
    expect(reply.error_message, f"a {reply.status} without a message: {quote(reply.text)}")
