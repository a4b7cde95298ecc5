"""Rules for chat completions: messages, tools, tool_choice and response_format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from llmengine.mock.bodies import chat_request, tool_name
from llmengine.mock.json_fields import items, mapping
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
    required,
    typed,
    within,
    wrong_type,
)
from llmengine.mock.rules.fields import (
    CHAT,
    message_fields,
    not_played,
    sampling_rules,
    types_of,
    values_of,
)
from llmengine.mock.schema import SchemaError, check_schema, instance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import Finder, ModelLimits


# ---- messages

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_PART_TEXT = {"text": "text", "refusal": "refusal"}
_PARTS = frozenset({*_PART_TEXT, "image_url", "input_audio", "file"})
_CONTENT = "a string or an array of objects"


def _role(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        field, role = f"{path}.role", message.get("role")
        if problem := missing(field) if role is None else check_one_of(field, role, _ROLES):
            return problem
    return None


def _null_content(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        may_be_null = message.get("role") == "assistant" and (
            message.get("tool_calls") or message.get("function_call") or message.get("refusal")
        )
        if message.get("content") is None and not may_be_null:
            return wrong_type(f"{path}.content", _CONTENT, None)
    return None


def _content_type(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return wrong_type(f"{path}.content", _CONTENT, content)
    return None


def _content_parts(body: Body, limits: ModelLimits) -> Problem | None:
    return first_problem(
        _part_problem(f"{path}.content[{index}]", part)
        for path, message in objects(body, "messages")
        for index, part in enumerate(items(message.get("content")))
    )


def _part_problem(field: str, part: object) -> Problem | None:
    if not isinstance(part, dict):
        return wrong_type(field, "an object", part)
    kind = part.get("type")
    if problem := check_one_of(f"{field}.type", kind, _PARTS):
        return problem
    key = _PART_TEXT.get(str(kind))
    if key is not None:
        return check_type(f"{field}.{key}", "a string", part.get(key))
    return check_type(f"{field}.{kind}", "an object", part.get(kind))


def _tool_call_id(body: Body, limits: ModelLimits) -> Problem | None:
    for path, message in objects(body, "messages"):
        if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
            return missing(f"{path}.tool_call_id")
    return None


def _result_without_call(body: Body, limits: ModelLimits) -> Problem | None:
    called: set[str] = set()
    for path, message in objects(body, "messages"):
        called.update(str(mapping(c).get("id")) for c in items(message.get("tool_calls")))
        if message.get("role") == "tool" and str(message.get("tool_call_id")) not in called:
            text = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceding "
                "message with 'tool_calls'."
            )
            return Problem(text, f"{path}.role")
    return None


def _top_without_logprobs(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("top_logprobs") is None or body.get("logprobs") is True:
        return None
    message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
    return Problem(message, "top_logprobs")


# Fields whose values have rules of their own.
_WITH_RULES = """
frequency_penalty logit_bias messages model n presence_penalty reasoning_effort response_format stop
temperature tool_choice tools top_logprobs top_p
"""

CHAT_RULES: tuple[Rule, ...] = (
    *model_rules("chat"),
    Rule("chat.messages.required", required("messages")),
    Rule("chat.messages.type", either(typed(messages="an array"), array_of_objects("messages"))),
    Rule("chat.messages.min1", not_empty("messages")),
    Rule("chat.roles.unknown", _role),
    Rule("chat.content.null_user", _null_content),
    Rule("chat.content.type", _content_type),
    Rule("chat.content.parts", _content_parts),
    Rule("chat.messages.fields", message_fields(without="content role tool_call_id")),
    Rule("chat.tool_result.tool_call_id", _tool_call_id),
    Rule("chat.tool_result.orphan", _result_without_call),
    Rule(
        "chat.wrong_type",
        either(
            types_of(CHAT, without="model messages stop tool_choice"),
            typed(return_token_ids="a boolean"),  # noqa: S106 - not a password
        ),
    ),
    *sampling_rules("chat", CHAT),
    Rule(
        "chat.max_tokens.zero_negative",
        either(within("max_tokens", 1), within("max_completion_tokens", 1)),
    ),
    Rule("chat.reasoning_effort", values_of(CHAT, only="reasoning_effort")),
    Rule("logprobs.top.requires_logprobs", _top_without_logprobs),
    Rule("logprobs.top.max20", values_of(CHAT, only="top_logprobs")),
    Rule("chat.fields", values_of(CHAT, without=_WITH_RULES)),
    Rule("chat.not_played", not_played(CHAT)),
)

# This rule counts the tokens of a valid conversation, so it comes after all other rules.
CHAT_CONTEXT = Rule(
    "err.context_overflow", fits_context(lambda body: [chat_request(body)], "messages")
)


# ---- tools and tool_choice

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES = frozenset({"none", "auto", "required"})
_TOOLS = ("function", "custom")


def name_problem(field: str, name: object) -> Problem | None:
    """The problem of a value that is not a name of a function or of a schema."""
    if not isinstance(name, str):
        return wrong_type(field, "a string", name)
    if _NAME.fullmatch(name):
        return None
    message = f"Invalid '{field}': string does not match pattern '{_NAME.pattern}'."
    return Problem(message, field, "invalid_value")


def _functions(body: Body, *kinds: str) -> Iterator[tuple[str, Body]]:
    """Yield the functions that are objects, each with its path; other rules refuse the rest."""
    for path, tool in objects(body, "tools"):
        for kind in kinds or ("function",):
            if isinstance(function := tool.get(kind), dict):
                yield f"{path}.{kind}", function


def _tool_shape(body: Body, limits: ModelLimits) -> Problem | None:
    for index, tool in enumerate(items(body.get("tools"))):
        field = f"tools[{index}]"
        if not isinstance(tool, dict):
            return wrong_type(field, "an object", tool)
        kind = tool.get("type")
        if problem := check_one_of(f"{field}.type", kind, _TOOLS) or check_type(
            f"{field}.{kind}", "an object", tool.get(str(kind))
        ):
            return problem
    return None


def _custom_format(body: Body, limits: ModelLimits) -> Problem | None:
    for path, tool in objects(body, "tools"):
        field, wanted = f"{path}.custom.format", mapping(tool.get("custom")).get("format")
        if wanted is None:
            continue
        if problem := check_type(field, "an object", wanted) or check_one_of(
            f"{field}.type", mapping(wanted).get("type"), {"text", "grammar"}
        ):
            return problem
        grammar = mapping(mapping(wanted).get("grammar"))
        if mapping(wanted).get("type") == "grammar" and grammar.get("syntax") != "regex":
            message = "Only grammars of the syntax 'regex' are supported."
            return Problem(message, f"{field}.grammar.syntax", "unsupported_value")
    return None


def _tool_name(body: Body, limits: ModelLimits) -> Problem | None:
    return first_problem(
        name_problem(f"{path}.name", f.get("name")) for path, f in _functions(body, *_TOOLS)
    )


def _tool_parameters(body: Body, limits: ModelLimits) -> Problem | None:
    for path, function in _functions(body):
        field, parameters = f"{path}.parameters", function.get("parameters")
        if parameters is None:
            continue
        if problem := check_type(field, "an object", parameters) or schema_problem(
            parameters, field
        ):
            return problem
    return None


def _chosen_tools(choice: object) -> list[str]:
    """The names of the tools that a tool_choice object asks for or allows."""
    allowed = items(mapping(mapping(choice).get("allowed_tools")).get("tools"))
    return [name for tool in (choice, *allowed) if (name := tool_name(tool))]


def _tool_choice(body: Body, limits: ModelLimits) -> Problem | None:
    choice = body.get("tool_choice")
    kind = mapping(choice).get("type")
    if kind == "allowed_tools":
        allowed = mapping(mapping(choice).get("allowed_tools"))
        return check_one_of(
            "tool_choice.allowed_tools.mode", allowed.get("mode"), {"auto", "required"}
        ) or check_type("tool_choice.allowed_tools.tools", "an array", allowed.get("tools"))
    if choice is None or (kind in _TOOLS and _chosen_tools(choice)):
        return None
    return check_one_of("tool_choice", choice, _CHOICES)


def _only_with_tools(field: str) -> Finder:
    def find(body: Body, limits: ModelLimits) -> Problem | None:
        if body.get(field) is None or body.get("tools") is not None:
            return None
        message = (
            f"Invalid value for '{field}': '{field}' is only allowed when 'tools' are specified."
        )
        return Problem(message, field)

    return find


def _unknown_named_tool(body: Body, limits: ModelLimits) -> Problem | None:
    known = {tool_name(tool) for _, tool in objects(body, "tools")}
    unknown = [name for name in _chosen_tools(body.get("tool_choice")) if name not in known]
    if not unknown:
        return None
    message = f"Tool choice '{unknown[0]}' not found in 'tools' parameter."
    return Problem(message, "tool_choice", "invalid_value")


TOOL_RULES = (
    Rule("chat.tools.empty_array", not_empty("tools")),
    Rule("tools.shape", either(_tool_shape, _custom_format)),
    Rule("tools.name", _tool_name),
    Rule("tools.parameters", _tool_parameters),
    Rule("tools.choice.invalid_value", _tool_choice),
    Rule("tools.choice.without_tools", _only_with_tools("tool_choice")),
    Rule("tools.choice.named_unknown", _unknown_named_tool),
    Rule("tools.parallel.without_tools", _only_with_tools("parallel_tool_calls")),
)


# ---- response_format

_FORMATS = frozenset({"text", "json_object", "json_schema"})
_SCHEMA = "response_format.json_schema"


def schema_problem(schema: object, field: str) -> Problem | None:
    """The problem of a value that is not a JSON schema, or of a schema that no value fits."""
    return _invalid_schema(schema, field) or _impossible_schema(schema, field)


def _invalid_schema(schema: object, field: str) -> Problem | None:
    try:
        check_schema(schema)
    except SchemaError as error:
        return Problem(f"Invalid schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _impossible_schema(schema: object, field: str) -> Problem | None:
    try:
        instance(schema)
    except SchemaError as error:
        return Problem(f"Unsupported schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _given_schema(body: Body) -> object:
    response_format = mapping(body.get("response_format"))
    if response_format.get("type") != "json_schema":
        return None
    return mapping(response_format.get("json_schema")).get("schema")


def _format_type(body: Body, limits: ModelLimits) -> Problem | None:
    response_format = body.get("response_format")
    if not isinstance(response_format, dict):
        return None
    return check_one_of("response_format.type", response_format.get("type"), _FORMATS)


def _missing_schema(body: Body, limits: ModelLimits) -> Problem | None:
    response_format = mapping(body.get("response_format"))
    has_schema = isinstance(response_format.get("json_schema"), dict)
    return (
        missing(_SCHEMA)
        if response_format.get("type") == "json_schema" and not has_schema
        else None
    )


def _schema_name(body: Body, limits: ModelLimits) -> Problem | None:
    json_schema = mapping(body.get("response_format")).get("json_schema")
    if not isinstance(json_schema, dict):
        return None
    return name_problem(f"{_SCHEMA}.name", json_schema.get("name"))


def _schema_valid(body: Body, limits: ModelLimits) -> Problem | None:
    schema = _given_schema(body)
    return None if schema is None else _invalid_schema(schema, f"{_SCHEMA}.schema")


def _schema_possible(body: Body, limits: ModelLimits) -> Problem | None:
    schema = _given_schema(body)
    if schema is None or _schema_valid(body, limits):
        return None
    return _impossible_schema(schema, f"{_SCHEMA}.schema")


def _word_json(body: Body, limits: ModelLimits) -> Problem | None:
    if mapping(body.get("response_format")).get("type") != "json_object":
        return None
    if "json" in json.dumps(body.get("messages"), ensure_ascii=False).lower():
        return None
    message = (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
        "'json_object'."
    )
    return Problem(message, "messages")


STRUCTURED_RULES = (
    Rule("struct.type.unknown", _format_type),
    Rule("struct.json_schema.missing", _missing_schema),
    Rule("struct.json_schema.name", _schema_name),
    Rule("struct.schema.invalid", _schema_valid),
    Rule("struct.schema.unsupported", _schema_possible),
    Rule("struct.json_object.word", _word_json),
)
