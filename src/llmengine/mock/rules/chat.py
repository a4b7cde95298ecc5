"""Rules of chat completions, without those on tools and on the response format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.mock.chat_body import chat_ask
from llmengine.mock.reading import items, mapping
from llmengine.mock.rules.common import context_problem, model_rules, sampling_rules
from llmengine.mock.rules.kinds import (
    Problem,
    Rule,
    either,
    one_of,
    required,
    typed,
    unknown_value,
    within,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_PART_TEXT = {"text": "text", "refusal": "refusal"}
_PARTS = frozenset({*_PART_TEXT, "image_url", "input_audio", "file"})
EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})


def _messages(body: JSON) -> Iterator[tuple[str, dict[str, Any]]]:
    """The messages that are objects: another rule refuses the others."""
    for place, message in enumerate(items(body.get("messages"))):
        if isinstance(message, dict):
            yield f"messages[{place}]", message


def _empty(body: JSON, limits: Limits) -> Problem | None:
    if body.get("messages") != []:
        return None
    message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
    return Problem(message, "messages", "empty_array")


def _not_objects(body: JSON, limits: Limits) -> Problem | None:
    for place, message in enumerate(items(body.get("messages"))):
        if not isinstance(message, dict):
            return wrong_type(f"messages[{place}]", "an object", message)
    return None


def _role(body: JSON, limits: Limits) -> Problem | None:
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


def _null_content(body: JSON, limits: Limits) -> Problem | None:
    for field, message in _messages(body):
        by_calls = message.get("role") == "assistant" and (
            message.get("tool_calls") or message.get("function_call") or message.get("refusal")
        )
        if message.get("content") is None and not by_calls:
            return wrong_type(f"{field}.content", "a string or an array of objects", None)
    return None


def _content_type(body: JSON, limits: Limits) -> Problem | None:
    for field, message in _messages(body):
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return wrong_type(f"{field}.content", "a string or an array of objects", content)
    return None


def _content_parts(body: JSON, limits: Limits) -> Problem | None:
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


def _tool_call_id(body: JSON, limits: Limits) -> Problem | None:
    for field, message in _messages(body):
        if message.get("role") == "tool" and not isinstance(message.get("tool_call_id"), str):
            name = f"{field}.tool_call_id"
            return Problem(
                f"Missing required parameter: '{name}'.", name, "missing_required_parameter"
            )
    return None


def _orphan_result(body: JSON, limits: Limits) -> Problem | None:
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


def _top_alone(body: JSON, limits: Limits) -> Problem | None:
    if body.get("top_logprobs") is None or body.get("logprobs") is True:
        return None
    message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
    return Problem(message, "top_logprobs")


def _overflow(body: JSON, limits: Limits) -> Problem | None:
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
    return_token_ids="a boolean",  # noqa: S106 - tokens of a text
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

# Counts tokens of a conversation that must be whole, so it comes after all other rules.
CHAT_CONTEXT = Rule("err.context_overflow", _overflow)
