"""Mutants of tools.rate, tools.strict and tools.stream_equals."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.checks.tools_counted import FEATURES, MODES, SCENARIOS
from pytest_llmengine.contract.mutants.hooks import answer, body, choices, events, fragments
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON, ReceivedRequest
    from pytest_llmengine.contract.mutants.hooks import Hook

T = TypeVar("T")


def _calls(edit: Callable[[JSON], object]) -> Hook:
    return answer(lambda choice: [edit(c) for c in choice["message"].get("tool_calls", [])])


# ---- one wrong call in ten


def _broken_json(call: JSON) -> None:
    call["function"]["arguments"] = call["function"]["arguments"].replace("}", "")


def _other_name(call: JSON) -> None:
    if "name" in call["function"]:
        call["function"]["name"] += "_now"


def _other_city(call: JSON) -> None:
    call["function"]["arguments"] = call["function"]["arguments"].replace("Paris", "Rome")


def _one_id(call: JSON) -> None:
    if "id" in call:
        call["id"] = "call_1"


def _swapped(call: JSON) -> None:
    call["function"]["arguments"] = call["function"]["arguments"].translate(_SWAP)


_SWAP = str.maketrans({"c": "z", "z": "c"})
_WRONG = {
    "required": (_broken_json, _other_name, _other_city),
    "named": (_broken_json,),
    "strict": (_other_name, _other_city),
    "auto": (),
    "parallel": (_one_id, _swapped),
}


def _in_one_of_ten(
    hook: Callable[[T, ReceivedRequest], T],
) -> Callable[[T, ReceivedRequest], T]:
    """The hook for the requests with one seed of ten."""
    return lambda value, call: hook(value, call) if b'"seed": 3' in call.body else value


for _mode in MODES:
    for _edit in _WRONG[_mode.name]:
        _name = f"{_edit.__name__.strip('_')} once"
        mutant(f"tools.rate.{_mode.name}", Behaviour(_name, reply=_in_one_of_ten(_calls(_edit))))
        mutant(
            f"tools.rate.{_mode.name}_stream",
            Behaviour(_name, events=_in_one_of_ten(fragments(_edit))),
        )


# ---- markup of a call in the text


def _with_markup(message: JSON) -> None:
    message["content"] = "<tool_call>"


_MARKED = "markup once"
mutant(
    "tools.rate.auto",
    Behaviour(_MARKED, reply=_in_one_of_ten(answer(lambda c: _with_markup(c["message"])))),
)
mutant(
    "tools.rate.auto_stream",
    Behaviour(_MARKED, events=_in_one_of_ten(choices(lambda c: _with_markup(c["delta"])))),
)


# ---- strict


def _not_strict(request: JSON) -> None:
    for tool in request.get("tools", []):
        tool["function"].pop("strict", None)


for _feature in FEATURES:
    mutant(f"tools.strict.{_feature.name}", Behaviour("strict dropped", request=body(_not_strict)))


# ---- streams that differ from wholes


def _changed(old: str, new: str, fragment: JSON) -> None:
    function = fragment["function"]
    function["arguments"] = function.get("arguments", "").replace(old, new)


def _stops(choice: JSON) -> None:
    choice["finish_reason"] = choice["finish_reason"] and "stop"


def _no_second_call(choice: JSON) -> None:
    if any(call["index"] for call in choice["delta"].get("tool_calls", [])):
        choice["delta"] = {}


def _ignoring_tool_choice(request: JSON) -> None:
    if request.get("stream"):
        request.pop("tool_choice", None)


_DIFFERENT = {
    "required": Behaviour("other arguments", events=fragments(partial(_changed, "Paris", "Rome"))),
    "named": Behaviour("tool_choice ignored", request=body(_ignoring_tool_choice)),
    "auto": Behaviour("finish reason stop", events=choices(_stops)),
    "none": Behaviour("tool_choice ignored", request=body(_ignoring_tool_choice)),
    "text": Behaviour("no last token", events=events(lambda found: [*found[:-2], found[-1]])),
    "parallel": Behaviour("one call", events=choices(_no_second_call)),
    "nested": Behaviour("no brackets", events=fragments(partial(_changed, "[", ""))),
    "empty": Behaviour("no arguments", events=fragments(partial(_changed, "{", ""))),
    "unicode": Behaviour("cut characters", events=fragments(partial(_changed, "漢", "\ufffd"))),
    "escapes": Behaviour("escaped twice", events=fragments(partial(_changed, "\\", "\\\\"))),
}

for _scenario in SCENARIOS:
    mutant(f"tools.stream_equals.{_scenario.name}", _DIFFERENT[_scenario.name])
