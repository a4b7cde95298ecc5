"""Mutants of tools.choice, tools.parallel and chat.tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answer, body, crashes_on, forgets, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook


def _dropped(field: str) -> Hook:
    """A server that ignores the field in streams and obeys it in whole answers."""
    return body(lambda request: request.get("stream") and request.pop(field, None))


def _none_by_default(request: JSON) -> None:
    if request.get("tools"):
        request.setdefault("tool_choice", "none")


def _last_tool(request: JSON) -> None:
    if isinstance(request.get("tool_choice"), dict):
        request["tool_choice"]["function"]["name"] = request["tools"][-1]["function"]["name"]


def _mode_alone(request: JSON) -> None:
    choice = request.get("tool_choice")
    if isinstance(choice, dict):
        request["tool_choice"] = choice["allowed_tools"]["mode"]


def _auto_after_calls(request: JSON) -> None:
    if any(message["role"] == "tool" for message in request["messages"]):
        request.pop("tool_choice", None)


def _call_as_markup(choice: JSON) -> None:
    if not choice["message"].get("tool_calls"):
        choice["message"]["content"] = '<tool_call>{"name": "get_weather"}</tool_call>'


IGNORED = Behaviour("tool_choice ignored", request=forgets("tool_choice"))
_IN_STREAMS = Behaviour("tool_choice ignored in streams", request=_dropped("tool_choice"))

for _name in ("none", "required", "named", "allowed_tools"):
    mutant(f"tools.choice.{_name}", IGNORED)
    mutant(f"tools.choice.{_name}_stream", _IN_STREAMS)

mutant("tools.choice.none", Behaviour("a call as text", reply=answer(_call_as_markup)))
mutant("tools.choice.none_after_calls", Behaviour("auto later", request=body(_auto_after_calls)))
mutant("tools.choice.auto_default", Behaviour("none by default", request=body(_none_by_default)))
mutant("tools.choice.named", Behaviour("always the last tool", request=body(_last_tool)))
mutant("tools.choice.allowed_tools", Behaviour("the mode alone", request=body(_mode_alone)))
mutant("tools.parallel.disable", Behaviour("ignored", request=forgets("parallel_tool_calls")))
mutant(
    "tools.parallel.disable_stream",
    Behaviour("ignored in streams", request=_dropped("parallel_tool_calls")),
)

for _rule in (
    "tools.choice.named_unknown",
    "tools.choice.invalid_value",
    "tools.choice.without_tools",
    "chat.tools.empty_array",
):
    rule_off(_rule)

mutant("tools.choice.invalid_value", Behaviour("crashes", wire=crashes_on(b"sometimes")))
