"""Mutants of conc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import mixing_up, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest


def _never_ending(events: list[JSON], call: ReceivedRequest) -> list[JSON]:
    return events[:-1]


mutant("conc.isolation", Behaviour("mixes answers up", reply=mixing_up(after=1)))
mutant("conc.isolation", Behaviour("mixes up when busy", reply=mixing_up(after=5)))
mutant("conc.unique_ids", Behaviour("one id for all", reply=put("chatcmpl-1", "id")))
mutant("conc.stream_and_json_mixed", Behaviour("streams never end", events=_never_ending))
mutant(
    "conc.stream_and_json_mixed",
    Behaviour("answers never end", reply=put(None, "choices", 0, "finish_reason")),
)
