"""Mutants of conc."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import anothers, mixing_up, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest

    Mix = Callable[[list[JSON], list[JSON]], list[JSON]]


def _never_ending(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
    return events[:-1]


def _among_open_streams(name: str, mix: Mix) -> Behaviour:
    """A server that mixes each stream with one that it is sending to another client."""
    open_streams: dict[int, list[JSON]] = {}

    def events(own: list[JSON], call: ReceivedRequest) -> list[JSON]:
        others = [found for client, found in open_streams.items() if client != call.client]
        open_streams[call.client] = copy.deepcopy(own)
        return mix(own, copy.deepcopy(others[-1])) if others else own

    def close(call: ReceivedRequest) -> None:
        open_streams.pop(call.client, None)

    return Behaviour(name, events=events, sent=close, left=close)


def _swapped(own: list[JSON], other: list[JSON]) -> list[JSON]:
    return other


def _interleaved(own: list[JSON], other: list[JSON]) -> list[JSON]:
    """The stream with every second delta of the other one."""
    for mine, theirs in list(zip(own, other, strict=False))[1::2]:
        mine["choices"] = theirs["choices"]
    return own


def _poisoned() -> Behaviour:
    """A server that answers with what it had for a client that went away."""
    written: dict[int, list[JSON]] = {}
    cached: list[list[JSON]] = []

    def events(own: list[JSON], call: ReceivedRequest) -> list[JSON]:
        written[call.client] = copy.deepcopy(own)
        return cached.pop() if cached else own

    def left(call: ReceivedRequest) -> None:
        if call.client in written:
            cached.append(written.pop(call.client))

    return Behaviour("poisoned by a cancellation", events=events, left=left)


def _stale_on_reuse() -> Behaviour:
    """A server that sends the last answer again if a connection is used again."""
    last: dict[int, RawReply] = {}

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        before = last.get(call.client, reply)
        last[call.client] = copy.deepcopy(reply)
        return before

    return Behaviour("the last body on a reused connection", wire=wire)


CALL = ("choices", 0, "message", "tool_calls", 0, "function", "arguments")
MIXED_UP = {
    "the previous completion": anothers("choices", 0, "text"),
    "the previous response": anothers("output", 0, "content", 0, "text"),
    "the previous text": anothers("choices", 0, "message", "content"),
    "the previous prompt_tokens": anothers("usage", "prompt_tokens"),
}
MIXED_UP_UNDER_LOAD = {
    "the previous tool arguments": anothers(*CALL),
    "the previous log-probabilities": anothers("choices", 0, "logprobs"),
}

mutant("conc.isolation", Behaviour("mixes answers up", reply=mixing_up(after=1)))
mutant("conc.isolation", Behaviour("mixes up when busy", reply=mixing_up(after=5)))
for name, hook in MIXED_UP.items():
    mutant("conc.isolation", Behaviour(name, reply=hook))
for name, hook in MIXED_UP_UNDER_LOAD.items():
    mutant("conc.isolation.load", Behaviour(name, reply=hook))
mutant("conc.isolation.load", Behaviour("mixes up under load", reply=mixing_up(after=60)))
for behaviour in (
    _among_open_streams("streams swapped", _swapped),
    _among_open_streams("streams interleaved", _interleaved),
    _poisoned(),
    _stale_on_reuse(),
):
    mutant("conc.isolation.load", behaviour)
mutant("conc.unique_ids", Behaviour("one id for all", reply=put("chatcmpl-1", "id")))
mutant("conc.stream_and_json_mixed", Behaviour("streams never end", events=_never_ending))
mutant(
    "conc.stream_and_json_mixed",
    Behaviour("answers never end", reply=put(None, "choices", 0, "finish_reason")),
)
