"""Rules for chat completions: messages, tools, tool_choice and response_format."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmengine.mock.bodies import chat_ask
from llmengine.mock.json_fields import items, mapping
from llmengine.mock.rules.base import (
    Problem,
    Rule,
    context_problem,
    either,
    model_rules,
    one_of,
    required,
    sampling_rules,
    typed,
    unknown_value,
    within,
    wrong_type,
)
from llmengine.mock.schema import SchemaError, check_schema, instance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.base import ModelLimits


FORMATS = frozenset({"text", "json_object", "json_schema"})
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def schema_problem(schema: Any, field: str) -> Problem | None:
    """The problem of a value that is not a JSON schema, or of a schema that no value fits."""
    return _invalid_schema(schema, field) or _impossible_schema(schema, field)


def _invalid_schema(schema: Any, field: str) -> Problem | None:
    try:
        check_schema(schema)
    except SchemaError as error:
        return Problem(f"Invalid schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _impossible_schema(schema: Any, field: str) -> Problem | None:
    try:
        instance(schema)
    except SchemaError as error:
        return Problem(f"Unsupported schema for '{field}': {error}", field, "invalid_json_schema")
    return None


def _schema(body: JSON) -> Any:
    chosen = mapping(body.get("response_format"))
    if chosen.get("type") != "json_schema":
        return None
    return mapping(chosen.get("json_schema")).get("schema")


def _type(body: JSON, limits: ModelLimits) -> Problem | None:
    chosen = body.get("response_format")
    if not isinstance(chosen, dict):
        return None
    kind = chosen.get("type")
    if isinstance(kind, str) and kind in FORMATS:
        return None
    return unknown_value("response_format.type", kind, FORMATS)


def _missing(body: JSON, limits: ModelLimits) -> Problem | None:
    chosen = mapping(body.get("response_format"))
    if chosen.get("type") != "json_schema" or isinstance(chosen.get("json_schema"), dict):
        return None
    field = "response_format.json_schema"
    return Problem(f"Missing required parameter: '{field}'.", field, "missing_required_parameter")


def _schema_name(body: JSON, limits: ModelLimits) -> Problem | None:
    chosen = mapping(body.get("response_format")).get("json_schema")
    if not isinstance(chosen, dict):
        return None
    name, field = chosen.get("name"), "response_format.json_schema.name"
    if not isinstance(name, str):
        return wrong_type(field, "a string", name)
    if _NAME.fullmatch(name):
        return None
    message = f"Invalid '{field}': string does not match pattern '{_NAME.pattern}'."
    return Problem(message, field, "invalid_value")


def _invalid(body: JSON, limits: ModelLimits) -> Problem | None:
    schema = _schema(body)
    if schema is None:
        return None
    return _invalid_schema(schema, "response_format.json_schema.schema")


def _impossible(body: JSON, limits: ModelLimits) -> Problem | None:
    schema = _schema(body)
    if schema is None or _invalid(body, limits):
        return None
    return _impossible_schema(schema, "response_format.json_schema.schema")


def _word(body: JSON, limits: ModelLimits) -> Problem | None:
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
    Rule("struct.type.unknown", _type),
    Rule("struct.json_schema.missing", _missing),
    Rule("struct.json_schema.name", _schema_name),
    Rule("struct.schema.invalid", _invalid),
    Rule("struct.schema.unsupported", _impossible),
    Rule("struct.json_object.word", _word),
)


_CHOICES = frozenset({"none", "auto", "required"})


def _functions(body: JSON) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the functions that are objects; another rule refuses the others."""
    for place, tool in enumerate(items(body.get("tools"))):
        if isinstance(function := mapping(tool).get("function"), dict):
            yield f"tools[{place}].function", function


def _no_tools(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("tools") != []:
        return None
    message = "Invalid 'tools': empty array. Expected an array with minimum length 1."
    return Problem(message, "tools", "empty_array")


def _shape(body: JSON, limits: ModelLimits) -> Problem | None:
    for place, tool in enumerate(items(body.get("tools"))):
        field = f"tools[{place}]"
        if not isinstance(tool, dict):
            return wrong_type(field, "an object", tool)
        if tool.get("type") != "function":
            return unknown_value(f"{field}.type", tool.get("type"), {"function"})
        if not isinstance(tool.get("function"), dict):
            return wrong_type(f"{field}.function", "an object", tool.get("function"))
    return None


def _name(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, function in _functions(body):
        name = function.get("name")
        if not isinstance(name, str):
            return wrong_type(f"{field}.name", "a string", name)
        if not _NAME.fullmatch(name):
            message = f"Invalid '{field}.name': string does not match pattern '{_NAME.pattern}'."
            return Problem(message, f"{field}.name", "invalid_value")
    return None


def _parameters(body: JSON, limits: ModelLimits) -> Problem | None:
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


def _choice(body: JSON, limits: ModelLimits) -> Problem | None:
    choice = body.get("tool_choice")
    if choice is None or named_tool(choice) is not None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return None
    return unknown_value("tool_choice", choice, _CHOICES)


def _choice_alone(body: JSON, limits: ModelLimits) -> Problem | None:
    return _alone("tool_choice", body)


def _parallel_alone(body: JSON, limits: ModelLimits) -> Problem | None:
    return _alone("parallel_tool_calls", body)


def _alone(field: str, body: JSON) -> Problem | None:
    if body.get(field) is None or body.get("tools") is not None:
        return None
    message = f"Invalid value for '{field}': '{field}' is only allowed when 'tools' are specified."
    return Problem(message, field)


def _choice_unknown(body: JSON, limits: ModelLimits) -> Problem | None:
    name = named_tool(body.get("tool_choice"))
    if name is None or any(f.get("name") == name for _, f in _functions(body)):
        return None
    message = f"Tool choice '{name}' not found in 'tools' parameter."
    return Problem(message, "tool_choice", "invalid_value")


TOOL_RULES = (
    Rule("chat.tools.empty_array", _no_tools),
    Rule("tools.shape", _shape),
    Rule("tools.name", _name),
    Rule("tools.parameters", _parameters),
    Rule("tools.choice.invalid_value", _choice),
    Rule("tools.choice.without_tools", _choice_alone),
    Rule("tools.choice.named_unknown", _choice_unknown),
    Rule("tools.parallel.without_tools", _parallel_alone),
)


_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_PART_TEXT = {"text": "text", "refusal": "refusal"}
_PARTS = frozenset({*_PART_TEXT, "image_url", "input_audio", "file"})
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})


def _messages(body: JSON) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the messages that are objects; another rule refuses the others."""
    for place, message in enumerate(items(body.get("messages"))):
        if isinstance(message, dict):
            yield f"messages[{place}]", message


def _empty(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("messages") != []:
        return None
    message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
    return Problem(message, "messages", "empty_array")


def _not_objects(body: JSON, limits: ModelLimits) -> Problem | None:
    for place, message in enumerate(items(body.get("messages"))):
        if not isinstance(message, dict):
            return wrong_type(f"messages[{place}]", "an object", message)
    return None


def _role(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, message in _messages(body):
        role = message.get("role")
        if role is None:
            name = f"{field}.role"
            return Problem(
                f"Missing required parameter: '{name}'.", name, "missing_required_parameter"
            )
        if not isinstance(role, str) or role not in _ROLES:
            return unknown_value(f"{field}.role", role, _ROLES)
    return None


def _null_content(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, message in _messages(body):
        by_calls = message.get("role") == "assistant" and (
            message.get("tool_calls") or message.get("function_call") or message.get("refusal")
        )
        if message.get("content") is None and not by_calls:
            return wrong_type(f"{field}.content", "a string or an array of objects", None)
    return None


def _content_type(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, message in _messages(body):
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return wrong_type(f"{field}.content", "a string or an array of objects", content)
    return None


def _content_parts(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, message in _messages(body):
        for place, part in enumerate(items(message.get("content"))):
            if problem := _part(f"{field}.content[{place}]", part):
                return problem
    return None


def _part(field: str, part: Any) -> Problem | None:
    if not isinstance(part, dict):
        return wrong_type(field, "an object", part)
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        return unknown_value(f"{field}.type", kind, _PARTS)
    inner = _PART_TEXT.get(kind)
    if inner is not None and not isinstance(part.get(inner), str):
        return wrong_type(f"{field}.{inner}", "a string", part.get(inner))
    if inner is None and not isinstance(part.get(kind), dict):
        return wrong_type(f"{field}.{kind}", "an object", part.get(kind))
    return None


def _tool_call_id(body: JSON, limits: ModelLimits) -> Problem | None:
    for field, message in _messages(body):
        if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
            name = f"{field}.tool_call_id"
            return Problem(
                f"Missing required parameter: '{name}'.", name, "missing_required_parameter"
            )
    return None


def _orphan_result(body: JSON, limits: ModelLimits) -> Problem | None:
    called: set[Any] = set()
    for field, message in _messages(body):
        called.update(str(mapping(c).get("id")) for c in items(message.get("tool_calls")))
        if message.get("role") == "tool" and str(message.get("tool_call_id")) not in called:
            text = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceding "
                "message with 'tool_calls'."
            )
            return Problem(text, f"{field}.role")
    return None


def _top_alone(body: JSON, limits: ModelLimits) -> Problem | None:
    if body.get("top_logprobs") is None or body.get("logprobs") is True:
        return None
    message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
    return Problem(message, "top_logprobs")


def _overflow(body: JSON, limits: ModelLimits) -> Problem | None:
    ask = chat_ask(body)
    return context_problem(ask.prompt_tokens, ask.max_tokens, limits, "messages")


_TYPES = typed(
    temperature="a number",
    top_p="a number",
    n="an integer",
    stream="a boolean",
    stream_options="an object",
    max_tokens="an integer",
    max_completion_tokens="an integer",
    presence_penalty="a number",
    frequency_penalty="a number",
    logit_bias="an object",
    logprobs="a boolean",
    top_logprobs="an integer",
    seed="an integer",
    user="a string",
    metadata="an object",
    store="a boolean",
    service_tier="a string",
    reasoning_effort="a string",
    tools="an array",
    parallel_tool_calls="a boolean",
    response_format="an object",
    return_token_ids="a boolean",  # noqa: S106 - not a password
)

CHAT_RULES: tuple[Rule, ...] = (
    *model_rules("chat"),
    Rule("chat.messages.required", required("messages")),
    Rule("chat.messages.type", either(typed(messages="an array"), _not_objects)),
    Rule("chat.messages.min1", _empty),
    Rule("chat.roles.unknown", _role),
    Rule("chat.content.null_user", _null_content),
    Rule("chat.content.type", _content_type),
    Rule("chat.content.parts", _content_parts),
    Rule("chat.tool_result.tool_call_id", _tool_call_id),
    Rule("chat.tool_result.orphan", _orphan_result),
    Rule("chat.wrong_type", _TYPES),
    *sampling_rules("chat"),
    Rule(
        "chat.max_tokens.zero_negative",
        either(within("max_tokens", 1), within("max_completion_tokens", 1)),
    ),
    Rule("chat.reasoning_effort", one_of("reasoning_effort", EFFORTS)),
    Rule("logprobs.top.requires_logprobs", _top_alone),
    Rule("logprobs.top.max20", within("top_logprobs", 0, 20)),
)

# This rule counts the tokens of a valid conversation, so it comes after all other rules.
CHAT_CONTEXT = Rule("err.context_overflow", _overflow)
