"""Mutants of resp.tool_choice."""

from __future__ import annotations

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import dropping, dropping_each
from pytest_llmengine.contract.mutants.registry import mutant

for _name in ("named", "allowed", "none"):
    dropping_each(f"resp.tool_choice.{_name}", "tool_choice")
mutant(
    "resp.tool_choice.stream",
    Behaviour("tool_choice dropped in streams", request=dropping("tool_choice", stream=True)),
)
dropping_each("resp.effect.parallel_tool_calls", "parallel_tool_calls")
