"""Checks of resp.stream: the events of a streamed response."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    LONG,
    TERMINAL,
    Events,
    missing,
    need_text,
    of_type,
    output_text,
    pick,
    stream_response,
)
from pytest_llmengine.contract.facts import lost_from
from pytest_llmengine.contract.outcomes import expect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="responses.stream")

NEEDS = {Capability.RESPONSES, Capability.STREAMING}
_ORDER = (
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
)
_WITH_INDEXES = (
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
)


def _need_text(events: Events) -> None:
    """End as unmeasured if the final response has no text, so that there are no deltas."""
    need_text(output_text(pick(of_type(events, *TERMINAL)[-1], dict, "response")))


@rule(
    "resp.stream.order",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ResponseStreamEvent",
    needs=NEEDS,
)
def order(target: Target) -> None:
    """Events come as created, in_progress, item and part added, deltas, done, then the end.

    The accumulator of the openai SDK raises, because a delta has no part.
    """
    events = stream_response(target)
    _need_text(events)
    types = [event["type"] for event in events]
    known = [t for t in dict.fromkeys(types) if t in {*_ORDER, *TERMINAL}]
    expect(known[:-1] == list(_ORDER), f"the events come as {', '.join(known)}")
    expect(known[-1] in TERMINAL, f"the last event is {types[-1]}")


@rule(
    "resp.stream.sequence_number",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ResponseTextDeltaEvent.sequence_number",
    needs=NEEDS,
)
def sequence_number(target: Target) -> None:
    """Events are numbered from 0, one by one.

    A client that reconnects cannot say after which event the stream goes on.
    """
    events = stream_response(target)
    without = [event for event in events if "sequence_number" not in event]
    expect(
        not without,
        f"{len(without)} events have no sequence_number",
        fact=lost_from("response", ["sequence_number"]),
    )
    numbers = [pick(event, int, "sequence_number") for event in events]
    expect(numbers == list(range(len(numbers))), f"the numbers are {quote(numbers)}")


@rule(
    "resp.stream.indexes",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ResponseTextDeltaEvent.output_index, .content_index",
    needs=NEEDS,
)
def indexes(target: Target) -> None:
    """Events of a content part say which item and which part they belong to.

    The accumulator of the openai SDK raises, because it finds a delta's part by the indexes.
    """
    events = stream_response(target)
    _need_text(events)
    for event in of_type(events, *_WITH_INDEXES):
        absent = missing(event, "item_id", "output_index", "content_index")
        expect(
            not absent,
            f"{event['type']} has no {', '.join(absent)}",
            fact=lost_from("response", absent),
        )
        expect(pick(event, int, "content_index") == 0, f"content_index: {quote(event)}")
        pick(event, int, "output_index")


@rule(
    "resp.stream.delta_logprobs_key",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ResponseTextDeltaEvent.logprobs",
    needs=NEEDS,
)
def delta_logprobs_key(target: Target) -> None:
    """Every text delta has a list of logprobs, though it be empty.

    Typed SDKs hand out None where the type says that there is a list.
    """
    events = stream_response(target)
    _need_text(events)
    for event in of_type(events, "response.output_text.delta"):
        lost = lost_from("response", ["logprobs"])
        expect("logprobs" in event, f"no logprobs: {quote(event)}", fact=lost)
        pick(event, list, "logprobs")


@rule(
    "resp.stream.terminal_once",
    level=REQUIRED,
    tier=EXTENDED,
    source="ollama/ollama#17118: exactly one of completed, incomplete and failed",
    needs=NEEDS,
)
def terminal_once(target: Target) -> None:
    """A stream ends with exactly one of completed, incomplete and failed, as its status says.

    A client waits for an end that does not come, or takes a cut answer for a whole one.
    """
    for prompt in ("Say hello.", LONG):  # the cap cuts at least the second
        _expect_one_end(stream_response(target, prompt))


def _expect_one_end(events: Events) -> None:
    ends = of_type(events, *TERMINAL)
    expect(len(ends) == 1, f"{len(ends)} events end the stream")
    expect(events[-1] is ends[0], f"after the end came {quote(events[-1])}")
    status = pick(ends[0], str, "response", "status")
    expect(ends[0]["type"] == f"response.{status}", f"{ends[0]['type']} with status {status!r}")
