"""Checks of resp consistency: the events of a stream, its response and a whole one agree."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    TERMINAL,
    Events,
    items,
    need_text,
    objects,
    of_type,
    output_text,
    pick,
)
from pytest_llmengine.contract.facts import INCLUDE_DROPPED, NO_WHOLES, either, fields_dropped
from pytest_llmengine.contract.logprob_assertions import expect_alternatives
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, REQUIRED, check
from pytest_llmengine.contract.samples import ASK_WEATHER, CALL_TOKENS, COLOUR_SCHEMA, JSON, WEATHER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, tier=EXTENDED, group="responses.consistency", since="2026-11-27")
NEEDS = {Capability.RESPONSES, Capability.STREAMING}
_TOOL = {"type": "function", **WEATHER["function"]}
_ALLOWED = {"type": "function", "name": WEATHER["function"]["name"]}
_TEXT = {"input": "Say hello.", "max_output_tokens": 16}
_SHORT = {"input": "Repeat exactly: yes", "max_output_tokens": 32}
_BACKGROUND = {**_TEXT, "background": True, "store": True}
_LOGPROBS = {**_TEXT, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
_CALL = {"input": ASK_WEATHER, "max_output_tokens": CALL_TOKENS, "tools": [_TOOL]}
_REQUIRED = {**_CALL, "tool_choice": "required"}
_THOUGHT = {
    "input": "Say hello.",
    "max_output_tokens": 32,
    "reasoning": {"effort": "high", "summary": "detailed"},
    "include": ["reasoning.encrypted_content"],
}
# Settings that a response repeats. A server may refuse some of these requests.
_SETTINGS: tuple[JSON, ...] = (
    {**_TEXT, "instructions": "Be brief.", "metadata": {"a": "b"}, "top_p": 0.5, "user": "u"},
    {**_REQUIRED, "parallel_tool_calls": False, "max_tool_calls": 3},
    {**_CALL, "tool_choice": _ALLOWED},
    {**_CALL, "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [_ALLOWED]}},
    {**_THOUGHT, "text": {"verbosity": "low"}, "truncation": "auto"},
    {**_TEXT, "safety_identifier": "s", "prompt_cache_key": "k", "store": False},
    {
        **_TEXT,
        "text": {"format": {"type": "json_schema", "name": "colour", "schema": COLOUR_SCHEMA}},
    },
    _BACKGROUND,
    {**_TEXT, "prompt_cache_options": {"mode": "explicit"}, "prompt_cache_retention": "24h"},
)
_CHANGING = {
    *("completed_at", "error", "incomplete_details", "output", "output_text", "status", "usage")
}
_RANDOM = {"id", "call_id", "encrypted_content"}


def _post(target: Target, body: JSON) -> Reply:
    return target.post("/responses", {"model": target.model, "temperature": 0, **body})


def _events(reply: Reply) -> Events:
    events = reply.objects_or_refused()
    for event in events:
        pick(event, str, "type")
    return events


def _final(events: Events) -> JSON:
    return pick(of_type(events, *TERMINAL)[-1], dict, "response")


@rule(
    "resp.stream.one_response",
    level=REQUIRED,
    source="openai-openapi: ResponseCreatedEvent.response",
    needs=NEEDS,
    breaks="A client that reads the settings at the start of a stream reads other ones.",
)
def one_response(target: Target) -> None:
    """The response in each event is the one at the end, and a whole one has the same settings."""
    for number, settings in enumerate(_SETTINGS):
        reply = _post(target, {**settings, "stream": True})
        if number and not reply.ok:
            continue
        events = _events(reply)
        last = _final(events)
        for event in events:
            if isinstance(early := event.get("response"), dict):
                _expect_same(early, last, f"in {quote(event['type'])}")
        whole = _post(target, settings)
        if whole.ok:
            _expect_same(whole.object(), last, "in a whole response", but={"id", "created_at"})


def _expect_same(one: JSON, last: JSON, where: str, *, but: Iterable[str] = ()) -> None:
    """Expect equal settings; the rule of the schema is about keys that are missing."""
    for key in sorted(one.keys() & last.keys() - _CHANGING.union(but)):
        both = f"{quote(one[key])}, at the end of the stream {quote(last[key])}"
        expect(one[key] == last[key], f"{key} is another {where}: {both}")


@rule(
    "resp.stream.one_item",
    level=REQUIRED,
    source="openai-openapi: ResponseOutputItemAddedEvent, ResponseContentPartDoneEvent",
    needs=NEEDS,
    breaks="A client that collects items from the events has other items than the response.",
)
def one_item(target: Target) -> None:
    """What an event says of an item or part is what the response at the end has at its place."""
    for number, body in enumerate((_SHORT, _LOGPROBS, _REQUIRED, _THOUGHT, _BACKGROUND)):
        reply = _post(target, {**body, "stream": True})
        if number and not reply.ok:
            continue
        events = _events(reply)
        output = objects(_final(events), "output")
        for place, event in enumerate(events):
            _expect_at_its_place(event, output)
            order = event.get("sequence_number", place)
            expect(order == place, f"{place} events come before the number {quote(order)}")
        _expect_logprobs(events, output)
        _expect_sums(events)
        _expect_done_items(events, output)


def _expect_at_its_place(event: JSON, output: list[JSON]) -> None:
    where = quote(event.get("type"))
    if "output_index" not in event:
        return  # the rule of the schema is about that
    place = pick(event, int, "output_index")
    expect(0 <= place < len(output), f"{where} has the output_index {place} of {len(output)}")
    item = output[place]
    if "item_id" in event:
        expect(event["item_id"] == item.get("id"), f"{where} has the id of another item")
    if isinstance(started := event.get("item"), dict):
        for key in ("id", "type", "role", "call_id", "name"):
            expect(started.get(key) == item.get(key), f"{where} has another {key}")
    if "arguments" in event and "name" in event:
        expect(event["name"] == item.get("name"), f"{where} has another name")
    for parts, index in (("content", "content_index"), ("summary", "summary_index")):
        if index not in event:
            continue
        part = pick(item, dict, parts, pick(event, int, index))
        if "part" in event:
            done = str(event.get("type")).endswith(".done")
            seen = pick(event, dict, "part")
            expect(not done or seen == part, f"{where}: {quote(seen)}, at the end {quote(part)}")
            expect(seen.get("type") == part.get("type"), f"{where} has a part of another type")
            expect(done or not (seen.get("text") or seen.get("refusal")), f"{where} has a text")


def _expect_sums(events: Events) -> None:
    """Expect that the deltas of a part join to its whole."""
    joined: dict[tuple[object, ...], str] = {}
    whole: dict[tuple[object, ...], str] = {}
    for event in events:
        family, _, step = event["type"].rpartition(".")
        places = (event.get(f"{name}_index") for name in ("output", "content", "summary"))
        part = (family, *places)
        texts = [event[key] for key in ("text", "refusal", "arguments") if key in event]
        if step == "delta" and isinstance(event.get("delta"), str):
            joined[part] = joined.get(part, "") + event["delta"]
        elif step == "done" and texts:
            whole[part] = pick(texts[0], str)
    parts = {part: text for part, text in whole.items() if text or part in joined}
    expect(
        joined == parts,
        f"deltas {quote([*joined.values()])}, wholes {quote([*parts.values()])}",
        fact="" if parts else NO_WHOLES,
    )


def _expect_logprobs(events: Events, output: list[JSON]) -> None:
    """Expect the logprobs of a text's deltas, of its end and of the response to be equal."""
    by_place: dict[tuple[int, int], list[JSON]] = {}
    for event in events:
        if "output_index" not in event or "content_index" not in event or "logprobs" not in event:
            continue
        place = pick(event, int, "output_index"), pick(event, int, "content_index")
        given = [_short(one) for one in _listed(event)]
        if event["type"] == "response.output_text.delta":
            by_place.setdefault(place, []).extend(given)
        if event["type"] == "response.output_text.done":
            deltas = by_place.get(place, [])
            expect(given == deltas, f"logprobs {quote(given)}, of the deltas {quote(deltas)}")
            part = pick(output[place[0]], dict, "content", place[1])
            final = [_short(one) for one in _listed(part)]
            expect(given == final, f"logprobs {quote(given)}, at the end {quote(final)}")


def _expect_done_items(events: Events, output: list[JSON]) -> None:
    """Expect that an item does not change any more after the event that it is done."""
    for event in events:
        if event["type"] != "response.output_item.done" or "output_index" not in event:
            continue
        item, last = pick(event, dict, "item"), output[pick(event, int, "output_index")]
        both = (item.keys() & last.keys()) - {"encrypted_content"}  # it may be encrypted again
        others = sorted(key for key in both if item[key] != last[key])
        reason = f"the item is done with {quote(item)}, at the end it is {quote(last)}"
        expect(not others, f"another {', '.join(others)} at the end: {reason}")


def _listed(holder: JSON) -> list[JSON]:
    """The logprobs of an event or a part; null, which the schema rules out, is read as none."""
    return objects(holder, "logprobs") if holder.get("logprobs") is not None else []


def _short(entry: JSON) -> JSON:
    """A token with its logprob and alternatives; in events the bytes are not in the schema."""
    tops = [[top.get("token"), top.get("logprob")] for top in entry.get("top_logprobs") or ()]
    return {"token": entry.get("token"), "logprob": entry.get("logprob"), "top": tops}


# ---- a stream and a whole response


def _same_output(body: JSON, target: Target) -> None:
    first = _post(target, body).success_or_refused()
    streamed = _final(_events(_post(target, {**body, "stream": True})))
    one, other = _output(streamed), _output(first)
    if one != other and _output(_post(target, body).success()) != other:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    expect(one == other, f"streamed {quote(one)}, whole {quote(other)}")
    counts = [pick(each, dict, "usage") for each in (streamed, first) if each.get("usage")]
    for usage in counts:
        usage.pop("input_tokens_details", None)  # what is cached changes between the two
    expect(len(counts) < 2 or counts[0] == counts[1], f"streamed and whole: {quote(counts)}")


def _output(response: JSON) -> list[JSON]:
    return [
        {key: value for key, value in item.items() if key not in _RANDOM}
        for item in objects(response, "output")
    ]


for _name, _body, _more in (
    ("text", _SHORT, set[Capability]()),
    ("logprobs", _LOGPROBS, {Capability.LOGPROBS}),
    ("call", _REQUIRED, {Capability.TOOLS}),
    ("reasoning", _THOUGHT, {Capability.REASONING}),
):
    rule(
        f"resp.stream.same_output.{_name}",
        level=EXPECTED,
        source="openai-openapi: ResponseStreamEvent",
        needs=NEEDS | _more,
        title=f"At temperature 0 a streamed response with a {_name} has the items of a whole one.",
        breaks="A client gets another answer as soon as it streams.",
    )(partial(_same_output, _body))


@rule(
    "resp.logprobs.alternatives",
    level=EXPECTED,
    source="openai-openapi: LogProb.top_logprobs",
    needs={Capability.RESPONSES, Capability.LOGPROBS},
    breaks="A client that reads the alternatives of a token, as a classifier does, reads others.",
)
def alternatives(target: Target) -> None:
    """At temperature 0 the first alternative is the token, and bytes are the text of a token."""
    body = _post(target, _LOGPROBS).success_or_refused()
    parts = [part for item in items(body, "message") for part in objects(item, "content")]
    entries = [one for part in parts for one in part.get("logprobs") or ()]
    need_text(output_text(body))
    reason = "logprobs were asked for and there are none"
    fact = either(INCLUDE_DROPPED, fields_dropped("/responses"))
    expect_effect(entries, reason, fact=fact)
    expect_alternatives(entries)
