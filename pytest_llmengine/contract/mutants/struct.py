"""Mutants of struct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import answer, crashes_on, forgets, rule_off, without
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

IGNORED = Behaviour("response_format ignored", request=forgets("response_format"))

_NOT_STRICT = without("response_format", "json_schema", "strict")


def _fenced(choice: JSON) -> None:
    choice["message"]["content"] = f"```json\n{choice['message']['content']}\n```"


mutant("struct.json_object", IGNORED)
mutant("struct.json_object", Behaviour("JSON in a fence", reply=answer(_fenced)))
mutant("struct.json_schema.strict", IGNORED)
mutant("struct.json_schema.strict", Behaviour("JSON in a fence", reply=answer(_fenced)))
mutant("struct.stream", IGNORED)
mutant("struct.stream.dictated", Behaviour("strict dropped", request=_NOT_STRICT))
mutant("struct.with_tools", IGNORED)

for _rule in ("struct.json_schema.missing", "struct.type.unknown", "struct.schema.invalid"):
    rule_off(_rule)

mutant("struct.schema.invalid", Behaviour("crashes", wire=crashes_on(b"haiku")))
mutant(
    "struct.refusal",
    Behaviour("no refusal key", reply=answer(lambda c: c["message"].pop("refusal"))),
)
mutant(
    "struct.refusal",
    Behaviour("both at once", reply=answer(lambda c: c["message"].update(refusal="No."))),
)
