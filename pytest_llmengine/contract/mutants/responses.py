"""Mutants of resp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, forgets
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.mock.behaviour import JSON
    from pytest_llmengine.contract.mutants.hooks import Hook


def _items(edit: Callable[[JSON], object]) -> Hook:
    return body(lambda reply: [edit(item) for item in reply["output"]])


def _last_part_lost(request: JSON) -> None:
    if isinstance(request.get("input"), list):
        request["input"] = "Something else."


def _says_completed(reply: JSON) -> None:
    reply.update(status="completed", incomplete_details=None)


mutant("resp.required", Behaviour("no error", reply=body(lambda b: b.pop("error"))))
mutant("resp.required", Behaviour("no tools", reply=body(lambda b: b.pop("tools"))))
mutant("resp.required", Behaviour("chat's object", reply=body(lambda b: b.update(object="chat"))))
mutant("resp.input.string_and_items", Behaviour("items not read", request=body(_last_part_lost)))
mutant("resp.output.message", Behaviour("no status", reply=_items(lambda i: i.pop("status"))))
mutant("resp.output.message", Behaviour("no content", reply=_items(lambda i: i["content"].clear())))
mutant("resp.output.message", Behaviour("no output", reply=body(lambda b: b["output"].clear())))
mutant(
    "resp.usage",
    Behaviour("no details", reply=body(lambda b: b["usage"].pop("output_tokens_details"))),
)
mutant(
    "resp.usage",
    Behaviour("wrong total", reply=body(lambda b: b["usage"].update(total_tokens=0))),
)
mutant("resp.incomplete.max_output_tokens", Behaviour("completed", reply=body(_says_completed)))
mutant(
    "resp.incomplete.max_output_tokens",
    Behaviour("no reason", reply=body(lambda b: b.update(incomplete_details=None))),
)
mutant("resp.tool_choice", Behaviour("tool_choice ignored", request=forgets("tool_choice")))
mutant(
    "resp.function_call.shape",
    Behaviour("no call_id", reply=_items(lambda i: i.pop("call_id", None))),
)
mutant(
    "resp.function_call.shape",
    Behaviour("status null", reply=_items(lambda i: i.update(status=None))),
)
