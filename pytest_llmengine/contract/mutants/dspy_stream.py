"""Mutants of dspy.stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import choices, events, forgets
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, RawReply, ReceivedRequest


def _in_one_piece(found: list[JSON]) -> list[JSON]:
    deltas = [event for event in found if event["choices"]]
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in deltas)
    for event in deltas[:-1]:
        event["choices"][0]["delta"]["content"] = ""
    deltas[0]["choices"][0]["delta"]["content"] = text
    return found


def _cut(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.chunks, reply.cut = reply.chunks[:8], True
    return reply


def _silent(choice: JSON) -> None:
    choice["delta"].pop("content", None)


mutant("dspy.stream.listener", Behaviour("in one piece", events=events(_in_one_piece)))
mutant(
    "dspy.stream.listener",
    Behaviour("stream ignored", request=forgets("stream", "stream_options")),
)
mutant("dspy.stream.listener", Behaviour("breaks off", wire=_cut))
mutant("dspy.stream.listener", Behaviour("no text", events=choices(_silent)))
