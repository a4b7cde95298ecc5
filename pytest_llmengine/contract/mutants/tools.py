"""Mutants of tools: calls, their arguments and ids, and results in the history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import (
    answer,
    crashes_on,
    first_call,
    fragments,
    refusing,
)
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


def _edited(old: str, new: str) -> Hook:
    def edit(call: JSON) -> None:
        call["function"]["arguments"] = call["function"]["arguments"].replace(old, new)

    return first_call(edit)


def _without_backslashes(fragment: JSON) -> None:
    function = fragment["function"]
    function["arguments"] = function.get("arguments", "").replace("\\", "")


def _cut_in_bytes(fragment: JSON) -> None:
    """Decode each byte on its own, as a server does that cuts tokens within characters."""
    function = fragment["function"]
    data = function.get("arguments", "").encode()
    function["arguments"] = "".join(bytes([b]).decode("utf-8", "replace") for b in data)


def _same_ids(choice: JSON) -> None:
    calls = choice["message"].get("tool_calls", [])
    for call in calls:
        call["id"] = calls[0]["id"]


def _result_before_its_turn(request: JSON) -> bool:
    ids = [m["tool_call_id"] for m in request["messages"] if m["role"] == "tool"]
    return ids != sorted(ids)


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
mutant("tools.unicode_args", Behaviour("no umlauts", reply=_edited("ü", "u")))
mutant("tools.words.escapes", Behaviour("spaces for line ends", reply=_edited("\\n", " ")))
mutant("tools.words.escapes", Behaviour("no backslashes", events=fragments(_without_backslashes)))
mutant("tools.words.markup", Behaviour("the call is lost", reply=answer(_markup_in_the_content)))
mutant("tools.words.markup", Behaviour("cut at the markup", reply=_edited("</tool_call>", "")))
mutant("tools.words.emoji", Behaviour("composed", reply=_edited("e\u0301", "\u00e9")))
mutant("tools.words.emoji", Behaviour("characters cut", events=fragments(_cut_in_bytes)))
mutant("tools.ids.unique", Behaviour("one id", reply=first_call(lambda c: c.update(id="call_1"))))
mutant("tools.ids.unique", Behaviour("one id in an answer", reply=answer(_same_ids)))
mutant(
    "tools.results.any_order",
    Behaviour("results in the order of the calls", request=refusing(_result_before_its_turn)),
)
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
