"""Rules for Anthropic's Messages API; the types follow those of anthropic-sdk-python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request
from llmengine.mock.json_fields import integer, items, mapping
from llmengine.mock.messages_body import messages_as_chat
from llmengine.mock.rules.base import (
    Problem,
    Rule,
    array_of_objects,
    check_one_of,
    check_type,
    either,
    first_problem,
    fits_context,
    missing,
    model_rules,
    not_empty,
    objects,
    one_of,
    required,
    typed,
    within,
    wrong_type,
)
from llmengine.mock.rules.chat import name_problem, schema_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import Finder, ModelLimits


TYPES = {
    "max_tokens": "an integer",
    "metadata": "an object",
    "output_config": "an object",
    "service_tier": "a string",
    "stop_sequences": "an array",
    "stream": "a boolean",
    "temperature": "a number",
    "thinking": "an object",
    "tool_choice": "an object",
    "tools": "an array",
    "top_k": "an integer",
    "top_p": "a number",
}
"""The types of the fields that have one type; the others have rules of their own."""

_FIELDS = frozenset({*TYPES, "model", "messages", "system", "cache_control"})
_ROLES = frozenset({"user", "assistant", "system"})
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
# The required fields of each block that the mock plays, with their types.
_BLOCKS: dict[str, dict[str, str]] = {
    "text": {"text": "a string"},
    "thinking": {"thinking": "a string", "signature": "a string"},
    "redacted_thinking": {"data": "a string"},
    "tool_use": {"id": "a string", "name": "a string", "input": "an object"},
    "tool_result": {"tool_use_id": "a string"},
}
_THINKING = frozenset({"enabled", "disabled", "adaptive"})
_MIN_BUDGET = 1024


def _unknown_field(body: Body, limits: ModelLimits) -> Problem | None:
    unknown = sorted(body.keys() - _FIELDS)
    return Problem(f"{unknown[0]}: Extra inputs are not permitted", unknown[0]) if unknown else None


# ---- messages and blocks


def _role(body: Body, limits: ModelLimits) -> Problem | None:
    return first_problem(
        check_one_of(f"{path}.role", message.get("role"), _ROLES)
        for path, message in objects(body, "messages")
    )


def _content_type(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        content = message.get("content")
        if not isinstance(content, str | list):
            return wrong_type(f"{path}.content", "a string or an array of objects", content)
    return None


def _blocks(body: Body) -> Iterator[tuple[str, object]]:
    for path, message in objects(body, "messages"):
        for index, block in enumerate(items(message.get("content"))):
            yield f"{path}.content[{index}]", block


def _unknown_block(body: Body, limits: ModelLimits) -> Problem | None:
    return first_problem(_kind_problem(path, block) for path, block in _blocks(body))


def _kind_problem(path: str, block: object) -> Problem | None:
    if not isinstance(block, dict):
        return wrong_type(path, "an object", block)
    if block.get("type") in ("image", "document"):
        return Problem(f"{path}: this model takes no input of type '{block['type']}'.", path)
    return check_one_of(f"{path}.type", block.get("type"), _BLOCKS)


def _block_fields(body: Body, limits: ModelLimits) -> Problem | None:
    for path, block in _blocks(body):
        for field, kind in _BLOCKS.get(str(mapping(block).get("type")), {}).items():
            if problem := check_type(f"{path}.{field}", kind, mapping(block).get(field)):
                return problem
    return None


def _empty(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        if message.get("content") in ("", []) and message.get("role") == "user":
            return Problem(f"{path}: user messages must have non-empty content", path)
    for path, block in _blocks(body):
        if mapping(block).get("type") == "text" and mapping(block).get("text") == "":
            return Problem(f"{path}: text content blocks must be non-empty", path)
    return None


def _system(body: Body, limits: ModelLimits) -> Problem | None:
    system = body.get("system")
    if system is None or isinstance(system, str):
        return None
    if not isinstance(system, list):
        return wrong_type("system", "a string or an array of objects", system)
    for path, block in ((f"system[{i}]", mapping(b)) for i, b in enumerate(system)):
        if problem := check_one_of(f"{path}.type", block.get("type"), {"text"}) or check_type(
            f"{path}.text", "a string", block.get("text")
        ):
            return problem
    return None


def _ids(message: Body, kind: str, key: str) -> set[str]:
    blocks = (mapping(block) for block in items(message.get("content")))
    return {str(block.get(key)) for block in blocks if block.get("type") == kind}


def _pairs(body: Body) -> Iterator[tuple[str, set[str], set[str]]]:
    """For each message: the ids of the calls before it, and those of the results in it."""
    called: set[str] = set()
    for path, message in objects(body, "messages"):
        yield path, called, _ids(message, "tool_result", "tool_use_id")
        called = _ids(message, "tool_use", "id")
    yield "messages", called, set()


def _result_without_call(body: Body, limits: ModelLimits) -> Problem | None:
    for path, called, answered in _pairs(body):
        if unknown := sorted(answered - called):
            text = f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {unknown[0]}"
            return Problem(text, path)
    return None


def _call_without_result(body: Body, limits: ModelLimits) -> Problem | None:
    for path, called, answered in _pairs(body):
        if open_calls := sorted(called - answered):
            text = (
                f"{path}: `tool_use` ids were found without `tool_result` blocks immediately after:"
                f" {open_calls[0]}"
            )
            return Problem(text, path)
    return None


# ---- parameters


def _stop_sequences(body: Body, limits: ModelLimits) -> Problem | None:
    listed = enumerate(items(body.get("stop_sequences")))
    return first_problem(check_type(f"stop_sequences[{i}]", "a string", s) for i, s in listed)


def _thinking_type(body: Body, limits: ModelLimits) -> Problem | None:
    thinking = body.get("thinking")
    if not isinstance(thinking, dict):
        return None
    return check_one_of("thinking.type", thinking.get("type"), _THINKING)


def _thinking_budget(body: Body, limits: ModelLimits) -> Problem | None:
    thinking = mapping(body.get("thinking"))
    if thinking.get("type") != "enabled":
        return None
    budget = integer(thinking.get("budget_tokens"))
    if budget is None or budget < _MIN_BUDGET:
        message = f"thinking.budget_tokens: must be an integer of at least {_MIN_BUDGET}"
        return Problem(message, "thinking.budget_tokens")
    if "max_tokens" in body and budget >= (integer(body["max_tokens"]) or 0):
        message = "`max_tokens` must be greater than `thinking.budget_tokens`"
        return Problem(message, "max_tokens")
    return None


def _output_config(body: Body, limits: ModelLimits) -> Problem | None:
    config = mapping(body.get("output_config"))
    if config.get("effort") is not None:
        return check_one_of("output_config.effort", config["effort"], _EFFORTS)
    if config.get("format") is None:
        return None
    wanted = mapping(config["format"])
    field = "output_config.format"
    return check_one_of(f"{field}.type", wanted.get("type"), {"json_schema"}) or schema_problem(
        wanted.get("schema"), f"{field}.schema"
    )


def _user_id(body: Body, limits: ModelLimits) -> Problem | None:
    user = mapping(body.get("metadata")).get("user_id")
    return None if user is None else check_type("metadata.user_id", "a string", user)


# ---- tools


def _tool_name(body: Body, limits: ModelLimits) -> Problem | None:
    return first_problem(
        name_problem(f"{path}.name", tool.get("name")) for path, tool in objects(body, "tools")
    )


def _input_schema(body: Body, limits: ModelLimits) -> Problem | None:
    for path, tool in objects(body, "tools"):
        field, schema = f"{path}.input_schema", tool.get("input_schema")
        if schema is None:
            return missing(field)
        if problem := check_type(field, "an object", schema) or schema_problem(schema, field):
            return problem
    return None


def _tool_type(body: Body, limits: ModelLimits) -> Problem | None:
    given = ((path, tool["type"]) for path, tool in objects(body, "tools") if tool.get("type"))
    return first_problem(check_one_of(f"{path}.type", kind, {"custom"}) for path, kind in given)


def _choice_type(body: Body, limits: ModelLimits) -> Problem | None:
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    return check_one_of("tool_choice.type", choice.get("type"), {"auto", "any", "tool", "none"})


def _choice_name(body: Body, limits: ModelLimits) -> Problem | None:
    choice = mapping(body.get("tool_choice"))
    names = [tool.get("name") for _, tool in objects(body, "tools")]
    if choice.get("type") != "tool" or choice.get("name") in names:
        return None
    return Problem(f"Tool '{choice.get('name')}' not found in provided tools", "tool_choice")


def _choice_without_tools(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("tool_choice") is None or body.get("tools"):
        return None
    return Problem("tool_choice may only be specified while providing tools", "tool_choice")


_SHARED: tuple[tuple[str, Finder], ...] = (
    ("unknown_field", _unknown_field),
    ("messages.required", required("messages")),
    ("messages.type", either(typed(messages="an array"), array_of_objects("messages"))),
    ("messages.min1", not_empty("messages")),
    ("roles.unknown", _role),
    ("content.type", _content_type),
    ("content.unknown_block", _unknown_block),
    ("content.block_fields", _block_fields),
    ("content.empty", _empty),
    ("system.type", _system),
    ("tool_result.orphan", _result_without_call),
    ("tool_use.unanswered", _call_without_result),
    *((f"wrong_type.{field}", typed(**{field: kind})) for field, kind in TYPES.items()),
    ("thinking.type", _thinking_type),
    ("thinking.budget", _thinking_budget),
    ("output_config.values", _output_config),
    ("tools.type", _tool_type),
    ("tools.name", _tool_name),
    ("tools.input_schema", _input_schema),
    ("tool_choice.unknown_type", _choice_type),
    ("tool_choice.without_tools", _choice_without_tools),
    ("tool_choice.unknown_tool", _choice_name),
)
_ONLY_MESSAGE: tuple[tuple[str, Finder], ...] = (
    ("max_tokens.required", required("max_tokens")),
    ("max_tokens.range", within("max_tokens", 1)),
    ("stop_sequences.strings", _stop_sequences),
    ("temperature.range", within("temperature", 0, 1)),
    ("top_p.range", within("top_p", 0, 1)),
    ("top_k.range", within("top_k", 0)),
    ("metadata.user_id", _user_id),
    ("service_tier", one_of("service_tier", {"auto", "standard_only"})),
)


def _rules(*rows: tuple[str, Finder]) -> tuple[Rule, ...]:
    return (*model_rules("messages"), *(Rule(f"messages.{name}", find) for name, find in rows))


def _context(*, with_completion: bool) -> Rule:
    finder = fits_context(
        lambda body: [chat_request(messages_as_chat(body))],
        "messages",
        with_completion=with_completion,
    )
    return Rule("err.context_overflow", finder)


MESSAGE_RULES = (*_rules(*_SHARED, *_ONLY_MESSAGE), _context(with_completion=True))
COUNT_RULES = _rules(*_SHARED)
