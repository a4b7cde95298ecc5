"""Mutants of resp.tool_choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, chunks, dropping, dropping_each
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

for _name in ("named", "allowed", "none"):
    dropping_each(f"resp.tool_choice.{_name}", "tool_choice")
mutant(
    "resp.tool_choice.stream",
    Behaviour("tool_choice dropped in streams", request=dropping("tool_choice", stream=True)),
)


def _call_as_markup(response: JSON) -> None:
    for item in response.get("output", ()):
        for part in item.get("content") or ():
            part["text"] = "<tool_call>{}</tool_call>"


def _call_as_markup_at_the_end(event: JSON) -> None:
    _call_as_markup(event.get("response", {}))


mutant("resp.tool_choice.none", Behaviour("a call as text", reply=body(_call_as_markup)))
mutant(
    "resp.tool_choice.none",
    Behaviour("a call as text in streams", events=chunks(_call_as_markup_at_the_end)),
)
dropping_each("resp.effect.parallel_tool_calls", "parallel_tool_calls")
