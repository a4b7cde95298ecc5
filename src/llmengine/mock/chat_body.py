"""A chat completion's body as a question; it bears any JSON, for rules may be left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmengine.mock.answers import Turn
from llmengine.mock.ask import Ask, Tool
from llmengine.mock.constraints import ANY_OBJECT, is_plain, schema_of
from llmengine.mock.reading import integer, items, mapping, number, strings, text

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

_MAX_CHOICES = 128
_QUIET = frozenset({"", "none", "minimal"})


def chat_ask(body: JSON) -> Ask:
    """The question in the body of a chat completion."""
    choice = body.get("tool_choice")
    named = text(mapping(mapping(choice).get("function")).get("name"))
    limit = integer(body.get("max_completion_tokens"))
    constraint = mapping(body.get("structured_outputs"))
    return Ask(
        turns=chat_turns(body.get("messages")),
        temperature=number(body.get("temperature"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=positive(limit if limit is not None else body.get("max_tokens")),
        stop=strings(body.get("stop")),
        n=choices(body.get("n")),
        tools=chat_tools(body.get("tools")),
        tool_choice=named or text(choice) or "auto",
        named=bool(named),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=wanted_schema(mapping(body.get("response_format"))) or schema_of(constraint),
        plain=bool(constraint) and is_plain(constraint),
        reasoning=text(body.get("reasoning_effort")) not in _QUIET,
        logit_bias=mapping(body.get("logit_bias")),
    )


def positive(value: Any) -> int | None:
    """A token limit, or None for no limit: what is not positive is none."""
    limit = integer(value)
    return limit if limit is not None and limit > 0 else None


def choices(value: Any) -> int:
    """How many answers to give: a number out of range is brought into it."""
    return min(max(integer(value) or 1, 1), _MAX_CHOICES)


def chat_turns(messages: Any) -> tuple[Turn, ...]:
    """The messages as text."""
    found = (m for m in items(messages) if isinstance(m, dict))
    return tuple(Turn(text(m.get("role")), _message_text(m)) for m in found)


def _message_text(message: JSON) -> str:
    said = content_text(message.get("content"))
    functions = (mapping(mapping(c).get("function")) for c in items(message.get("tool_calls")))
    calls = (f"{text(f.get('name'))}({_arguments(f.get('arguments'))})" for f in functions)
    return "\n".join(t for t in (said, *calls) if t)


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def content_text(content: Any) -> str:
    """A message's content as one text: a string, or its text parts one after the other."""
    if isinstance(content, str):
        return content
    return "".join(text(mapping(p).get("text")) for p in items(content))


def chat_tools(tools: Any) -> tuple[Tool, ...]:
    """The functions that may be called."""
    functions = (mapping(mapping(t).get("function")) for t in items(tools))
    return tuple(tool(f) for f in functions if text(f.get("name")))


def tool(function: JSON) -> Tool:
    """A function as OpenAI and Ollama describe it."""
    parameters = mapping(function.get("parameters"))
    return Tool(function["name"], parameters, text(function.get("description")))


def wanted_schema(wanted: JSON) -> Any:
    """The schema that a response format asks for, or None."""
    if wanted.get("type") == "json_object":
        return ANY_OBJECT
    if wanted.get("type") == "json_schema":
        return mapping(wanted.get("json_schema")).get("schema", ANY_OBJECT)
    return None
