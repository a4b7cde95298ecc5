"""Mutants of tools, without those of tools.choice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answer, crashes_on, first_call
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook


def _arguments(value: object) -> Hook:
    return first_call(lambda call: call["function"].update(arguments=value))


def _arguments_as_object(call: JSON) -> None:
    call["function"]["arguments"] = json.loads(call["function"]["arguments"])


def _markup_in_the_content(choice: JSON) -> None:
    calls = choice["message"].pop("tool_calls", None)
    choice["message"]["content"] = f"<tool_call>{json.dumps(calls)}</tool_call>"


mutant("tools.call.shape", Behaviour("arguments as object", reply=first_call(_arguments_as_object)))
mutant("tools.call.shape", Behaviour("no id", reply=first_call(lambda c: c.pop("id"))))
mutant("tools.call.shape", Behaviour("no type", reply=first_call(lambda c: c.pop("type"))))
mutant(
    "tools.call.shape",
    Behaviour("no function", reply=first_call(lambda c: c.update(name=c.pop("function")))),
)
mutant("tools.call.arguments_json", Behaviour("no JSON", reply=_arguments("{city: Paris}")))
mutant(
    "tools.call.arguments_json",
    Behaviour("JSON that the schema forbids", reply=_arguments('{"city": "Rome"}')),
)
mutant(
    "tools.finish_reason.auto_required",
    Behaviour("always stop", reply=answer(lambda c: c.update(finish_reason="stop"))),
)
mutant(
    "tools.finish_reason.named",
    Behaviour("always tool_calls", reply=answer(lambda c: c.update(finish_reason="tool_calls"))),
)
mutant("tools.no_marker_leak", Behaviour("calls as markup", reply=answer(_markup_in_the_content)))
mutant("tools.unicode_args", Behaviour("no umlauts", reply=_arguments('{"word": "Grusse"}')))
mutant("tools.empty_args", Behaviour("no arguments at all", reply=_arguments("")))
mutant("tools.empty_args", Behaviour("null", reply=_arguments("null")))
mutant(
    "tools.nested",
    Behaviour("objects as text", reply=_arguments('{"route": "{\\"stops\\": [\\"Lyon\\"]}"}')),
)
mutant(
    "tools.history_bad_json_args",
    Behaviour("crashes on bad arguments", wire=crashes_on(b'\\"Par"')),
)
