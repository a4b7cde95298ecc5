"""Rules of the responses API; those it shares with chat are chat's, on the body translated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.mock.chat_body import chat_ask
from llmengine.mock.reading import items, mapping
from llmengine.mock.responses_body import as_chat
from llmengine.mock.rules.chat import EFFORTS
from llmengine.mock.rules.common import context_problem, model_rules
from llmengine.mock.rules.kinds import (
    Finder,
    Problem,
    Rule,
    one_of,
    required,
    typed,
    unknown_value,
    within,
    wrong_type,
)
from llmengine.mock.rules.structured import STRUCTURED_RULES
from llmengine.mock.rules.tools import TOOL_RULES

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON
    from llmengine.mock.rules.kinds import Limits

_ITEMS = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
_ROLES = frozenset({"system", "developer", "user", "assistant"})
_RENAMED = (
    ("response_format.json_schema.", "text.format."),
    ("response_format.json_schema", "text.format.schema"),
    ("response_format", "text.format"),
    (".function", ""),
    ("messages", "input"),
)


def _input(body: JSON, limits: Limits) -> Problem | None:
    given = body.get("input")
    if given is None or isinstance(given, str | list):
        return None
    return wrong_type("input", "a string or an array of objects", given)


def _items(body: JSON, limits: Limits) -> Problem | None:
    for place, item in enumerate(items(body.get("input"))):
        if problem := _item(f"input[{place}]", item):
            return problem
    return None


def _item(field: str, item: Any) -> Problem | None:
    if not isinstance(item, dict):
        return wrong_type(field, "an object", item)
    kind = item.get("type", "message")
    if not isinstance(kind, str) or kind not in _ITEMS:
        return unknown_value(f"{field}.type", kind, _ITEMS)
    if kind != "message":
        return None
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        return unknown_value(f"{field}.role", role, _ROLES)
    if not isinstance(item.get("content"), str | list):
        return wrong_type(f"{field}.content", "a string or an array", item.get("content"))
    return None


def _effort(body: JSON, limits: Limits) -> Problem | None:
    asked = {"reasoning.effort": mapping(body.get("reasoning")).get("effort")}
    return one_of("reasoning.effort", EFFORTS)(asked, limits)


def _overflow(body: JSON, limits: Limits) -> Problem | None:
    ask = chat_ask(as_chat(body))
    return context_problem(ask.prompt_tokens, ask.max_tokens, limits, "input")


def _translated(find: Finder) -> Finder:
    """The finder of a chat rule on the body in chat's terms, its param in this API's."""

    def found(body: JSON, limits: Limits) -> Problem | None:
        problem = find(as_chat(body), limits)
        if problem is None or problem.param is None:
            return problem
        param, message = problem.param, problem.message
        for chat, here in _RENAMED:
            param, message = param.replace(chat, here), message.replace(chat, here)
        return replace(problem, param=param, message=message)

    return found


# Here no tools and an empty list of them are the same, and the choice has a default.
_NOT_HERE = frozenset({"chat.tools.empty_array", "tools.parallel.without_tools"})
_SHARED = tuple(r for r in (*TOOL_RULES, *STRUCTURED_RULES) if r.name not in _NOT_HERE)

RESPONSE_RULES = (
    *model_rules("resp"),
    Rule("resp.input.required", required("input")),
    Rule("resp.input.type", _input),
    Rule("resp.input.items", _items),
    Rule(
        "resp.wrong_type",
        typed(
            temperature="a number",
            top_p="a number",
            max_output_tokens="an integer",
            stream="a boolean",
            store="a boolean",
            instructions="a string",
            previous_response_id="a string",
            tools="an array",
            parallel_tool_calls="a boolean",
            text="an object",
            reasoning="an object",
            metadata="an object",
            top_logprobs="an integer",
            include="an array",
            user="a string",
        ),
    ),
    Rule("resp.temperature.range", within("temperature", 0, 2)),
    Rule("resp.top_p.range", within("top_p", 0, 1)),
    Rule("resp.max_output_tokens.range", within("max_output_tokens", 1)),
    Rule("resp.top_logprobs.max20", within("top_logprobs", 0, 20)),
    Rule("resp.reasoning.effort", _effort),
    *(Rule(f"resp.{r.name}", _translated(r.find)) for r in _SHARED),
    Rule("err.context_overflow", _overflow),
)
