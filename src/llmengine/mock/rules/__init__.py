"""Validation as a table of named rules, so that a behaviour can leave out any one of them.

A rule has the id of the contract's check on it, where there is one. With a rule left out the
server answers as if nothing were wrong: everything that reads a body bears any JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.errors import ApiError
from llmengine.mock.rules.chat import CHAT_CONTEXT, CHAT_RULES
from llmengine.mock.rules.kinds import Limits, Problem, Rule
from llmengine.mock.rules.structured import STRUCTURED_RULES
from llmengine.mock.rules.tools import TOOL_RULES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from llmengine.mock.behaviour import JSON

CHAT = (*CHAT_RULES, *TOOL_RULES, *STRUCTURED_RULES, CHAT_CONTEXT)

# Rules on what comes before a body's fields; `http` applies them.
HTTP_RULES = (
    "auth.missing",
    "auth.bad",
    "auth.models_protected",
    "err.not_found_path",
    "err.method",
    "err.wrong_content_type",
    "err.malformed_json",
    "err.nonobject_body",
    "models.retrieve.unknown",
)


def names() -> list[str]:
    """Every rule's name, in alphabetical order."""
    return sorted({r.name for r in CHAT} | set(HTTP_RULES))


def enforce(
    rules: Iterable[Rule], body: JSON, limits: Limits, without: Collection[str] = ()
) -> None:
    """Raise ApiError for the first rule that the body breaks and that is not left out."""
    for rule in rules:
        if rule.name in without:
            continue
        if problem := rule.find(body, limits):
            raise ApiError(
                problem.message, status=problem.status, param=problem.param, code=problem.code
            )


__all__ = ["CHAT", "HTTP_RULES", "Limits", "Problem", "Rule", "enforce", "names"]
