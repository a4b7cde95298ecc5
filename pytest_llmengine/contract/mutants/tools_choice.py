"""Mutants of tools.choice, tools.parallel and chat.tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, crashes_on, forgets, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

IGNORED = Behaviour("tool_choice ignored", request=forgets("tool_choice"))


def _none_by_default(request: JSON) -> None:
    if request.get("tools"):
        request.setdefault("tool_choice", "none")


def _another_function(request: JSON) -> None:
    if isinstance(request.get("tool_choice"), dict):
        request["tool_choice"]["function"]["name"] = "get_weather"


mutant("tools.choice.none", IGNORED)
mutant("tools.choice.auto_default", Behaviour("none by default", request=body(_none_by_default)))
mutant("tools.choice.required", IGNORED)
mutant("tools.choice.named", Behaviour("another function", request=body(_another_function)))
mutant("tools.choice.named", IGNORED)
mutant("tools.parallel.disable", Behaviour("ignored", request=forgets("parallel_tool_calls")))

for _rule in (
    "tools.choice.named_unknown",
    "tools.choice.invalid_value",
    "tools.choice.without_tools",
    "chat.tools.empty_array",
):
    rule_off(_rule)

mutant("tools.choice.invalid_value", Behaviour("crashes", wire=crashes_on(b"sometimes")))
