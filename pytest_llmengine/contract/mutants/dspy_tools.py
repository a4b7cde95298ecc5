"""Mutants of dspy.tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.dspy import CHOICELESS, SILENT
from pytest_llmengine.contract.mutants.hooks import answer, crashes_on, first_call
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


def _markup_in_the_content(choice: JSON) -> None:
    calls = choice["message"].pop("tool_calls", None)
    choice["message"]["content"] = f"<tool_call>{json.dumps(calls)}</tool_call>"


mutant("dspy.tools.native", Behaviour("calls as markup", reply=answer(_markup_in_the_content)))
mutant(
    "dspy.tools.native",
    Behaviour("arguments are lost", reply=first_call(lambda c: c["function"].update(arguments=""))),
)
mutant(
    "dspy.tools.native",
    Behaviour("calls are lost", reply=answer(lambda c: c["message"].pop("tool_calls", None))),
)
mutant("dspy.tools.react", SILENT)
mutant("dspy.tools.react", CHOICELESS)
mutant("dspy.tools.react", Behaviour("one turn only", wire=crashes_on(b"observation_0")))
