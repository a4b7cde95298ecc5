"""Rules of tools and tool_choice in chat completions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import items, mapping
from llmengine.mock.rules.kinds import Problem, Rule, unknown_value, wrong_type
from llmengine.mock.rules.structured import schema_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES = frozenset({"none", "auto", "required"})


def _functions(body: JSON) -> Iterator[tuple[str, dict[str, Any]]]:
    """The functions that are objects: another rule refuses what has none."""
    for place, tool in enumerate(items(body.get("tools"))):
        if isinstance(function := mapping(tool).get("function"), dict):
            yield f"tools[{place}].function", function


def _empty(body: JSON, limits: Limits) -> Problem | None:
    if body.get("tools") != []:
        return None
    message = "Invalid 'tools': empty array. Expected an array with minimum length 1."
    return Problem(message, "tools", "empty_array")


def _shape(body: JSON, limits: Limits) -> Problem | None:
    for place, tool in enumerate(items(body.get("tools"))):
        field = f"tools[{place}]"
        if not isinstance(tool, dict):
            return wrong_type(field, "an object", tool)
        if tool.get("type") != "function":
            return unknown_value(f"{field}.type", tool.get("type"), {"function"})
        if not isinstance(tool.get("function"), dict):
            return wrong_type(f"{field}.function", "an object", tool.get("function"))
    return None


def _name(body: JSON, limits: Limits) -> Problem | None:
    for field, function in _functions(body):
        name = function.get("name")
        if not isinstance(name, str):
            return wrong_type(f"{field}.name", "a string", name)
        if not _NAME.fullmatch(name):
            message = f"Invalid '{field}.name': string does not match pattern '{_NAME.pattern}'."
            return Problem(message, f"{field}.name", "invalid_value")
    return None


def _parameters(body: JSON, limits: Limits) -> Problem | None:
    for field, function in _functions(body):
        parameters = function.get("parameters")
        if parameters is None:
            continue
        if not isinstance(parameters, dict):
            return wrong_type(f"{field}.parameters", "an object", parameters)
        if problem := schema_problem(parameters, f"{field}.parameters"):
            return problem
    return None


def named_tool(choice: Any) -> str | None:
    """The name of the tool that a well-formed tool_choice object asks for."""
    if mapping(choice).get("type") != "function":
        return None
    name = mapping(mapping(choice).get("function")).get("name")
    return name if isinstance(name, str) else None


def _choice(body: JSON, limits: Limits) -> Problem | None:
    choice = body.get("tool_choice")
    if choice is None or named_tool(choice) is not None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return None
    return unknown_value("tool_choice", choice, _CHOICES)


def _choice_alone(body: JSON, limits: Limits) -> Problem | None:
    return _alone("tool_choice", body)


def _parallel_alone(body: JSON, limits: Limits) -> Problem | None:
    return _alone("parallel_tool_calls", body)


def _alone(field: str, body: JSON) -> Problem | None:
    if body.get(field) is None or body.get("tools") is not None:
        return None
    message = f"Invalid value for '{field}': '{field}' is only allowed when 'tools' are specified."
    return Problem(message, field)


def _choice_unknown(body: JSON, limits: Limits) -> Problem | None:
    name = named_tool(body.get("tool_choice"))
    if name is None or any(f.get("name") == name for _, f in _functions(body)):
        return None
    message = f"Tool choice '{name}' not found in 'tools' parameter."
    return Problem(message, "tool_choice", "invalid_value")


TOOL_RULES = (
    Rule("chat.tools.empty_array", _empty),
    Rule("tools.shape", _shape),
    Rule("tools.name", _name),
    Rule("tools.parameters", _parameters),
    Rule("tools.choice.invalid_value", _choice),
    Rule("tools.choice.without_tools", _choice_alone),
    Rule("tools.choice.named_unknown", _choice_unknown),
    Rule("tools.parallel.without_tools", _parallel_alone),
)
