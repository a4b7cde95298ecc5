"""Mutants of resp.stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import chunks, events
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

ENDS = ("response.completed", "response.incomplete")


def _without_the_start(found: list[JSON]) -> list[JSON]:
    return found[1:]


def _swapped(found: list[JSON]) -> list[JSON]:
    return [found[1], found[0], *found[2:]]


def _ends_twice(found: list[JSON]) -> list[JSON]:
    return [*found, found[-1]]


def _never_ends(found: list[JSON]) -> list[JSON]:
    return [event for event in found if event["type"] not in ENDS]


def _goes_on_after_the_end(found: list[JSON]) -> list[JSON]:
    return [*found, found[0]]


def _always_completed(found: list[JSON]) -> list[JSON]:
    return [*found[:-1], {**found[-1], "type": "response.completed"}]


mutant("resp.stream.order", Behaviour("no start", events=events(_without_the_start)))
mutant("resp.stream.order", Behaviour("events swapped", events=events(_swapped)))
mutant(
    "resp.stream.sequence_number",
    Behaviour("none", events=chunks(lambda e: e.pop("sequence_number"))),
)
mutant(
    "resp.stream.sequence_number",
    Behaviour(
        "from 1",
        events=events(
            lambda found: [
                {**event, "sequence_number": event["sequence_number"] + 1} for event in found
            ]
        ),
    ),
)
mutant(
    "resp.stream.indexes",
    Behaviour("no output_index", events=chunks(lambda e: e.pop("output_index", None))),
)
mutant(
    "resp.stream.delta_logprobs_key",
    Behaviour("no logprobs", events=chunks(lambda e: e.pop("logprobs", None))),
)
mutant("resp.stream.terminal_once", Behaviour("ends twice", events=events(_ends_twice)))
mutant("resp.stream.terminal_once", Behaviour("never ends", events=events(_never_ends)))
mutant("resp.stream.terminal_once", Behaviour("goes on", events=events(_goes_on_after_the_end)))
mutant(
    "resp.stream.terminal_once", Behaviour("completed though cut", events=events(_always_completed))
)
