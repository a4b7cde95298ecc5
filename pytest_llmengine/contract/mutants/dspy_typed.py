"""Mutants of dspy.typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.dspy import CHOICELESS, SILENT
from pytest_llmengine.contract.mutants.hooks import forgets, refusing
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest

IGNORED = Behaviour("response_format ignored", request=forgets("response_format"))


def _wants_schema(body: JSON) -> bool:
    return bool(body.get("response_format", {}).get("type") == "json_schema")


def _json_mode_for_schema(body: JSON, call: ReceivedRequest) -> JSON:
    wanted = {"response_format": {"type": "json_object"}} if _wants_schema(body) else {}
    return body | wanted


mutant("dspy.typed.chat", SILENT)
mutant("dspy.typed.chat", CHOICELESS)
mutant("dspy.typed.json_object", IGNORED)
mutant("dspy.typed.json_object", SILENT)
mutant("dspy.typed.json_schema", IGNORED)
mutant("dspy.typed.json_schema", Behaviour("only JSON mode", request=_json_mode_for_schema))
mutant("dspy.typed.json_schema", Behaviour("no schemas", request=refusing(_wants_schema)))
