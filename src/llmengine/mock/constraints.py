"""VLLM's ``structured_outputs`` as JSON schemas; lenient, for rules may be left out."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import items, mapping, text

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

# What JSON mode answers with where no schema is given.
ANY_OBJECT: JSON = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OF_LITERALS = re.compile(rf"\s*root\s*::=\s*{_LITERAL.pattern}(?:\s*\|\s*{_LITERAL.pattern})*\s*")


def given_kinds(wanted: JSON) -> list[str]:
    """The kinds of constraint that are asked for."""
    return [kind for kind in KINDS if wanted.get(kind) is not None]


def schema_of(wanted: JSON) -> Any:
    """What the answer is to fit; None where nothing is asked for, or nothing that can be played."""
    if (schema := wanted.get("json")) is not None:
        return _parsed(schema) if isinstance(schema, str) else schema
    if wanted.get("json_object") is True:
        return ANY_OBJECT
    if pattern := text(wanted.get("regex")):
        return {"type": "string", "pattern": f"^(?:{pattern})$"}
    words = items(wanted.get("choice")) or literals(text(wanted.get("grammar")))
    return {"enum": words} if words else None


def is_plain(wanted: JSON) -> bool:
    """Whether the answer is a text as it is, rather than JSON."""
    return not mapping(wanted).keys() & {"json", "json_object"}


def literals(grammar: str) -> list[str]:
    """The texts of a grammar that is a choice of literals, the only kind that is played."""
    if not _OF_LITERALS.fullmatch(grammar):
        return []
    return [_parsed(f'"{found}"') or found for found in _LITERAL.findall(grammar)]


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None
