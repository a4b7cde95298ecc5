"""The bodies of Ollama's own API in the terms of chat completions; they bear any JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmengine.mock.constraints import ANY_OBJECT
from llmengine.mock.reading import integer, items, mapping, strings, text

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

_DEFAULT_TEMPERATURE = 0.8
_OPTIONS = {"temperature": "temperature", "seed": "seed", "num_predict": "max_tokens"}


def chat_as_chat(body: JSON) -> JSON:
    """``/api/chat`` as a chat completion."""
    return {
        "messages": [_message(m) for m in items(body.get("messages")) if isinstance(m, dict)],
        "tools": items(body.get("tools")),
        **_shared(body),
    }


def generate_as_chat(body: JSON) -> JSON:
    """``/api/generate`` as a chat completion: the system text, then the prompt."""
    system, prompt = text(body.get("system")), text(body.get("prompt"))
    before = [{"role": "system", "content": system}] if system else []
    return {"messages": [*before, {"role": "user", "content": prompt}], **_shared(body)}


def _shared(body: JSON) -> JSON:
    options = mapping(body.get("options"))
    asked: JSON = {"temperature": _DEFAULT_TEMPERATURE, "stop": list(strings(options.get("stop")))}
    asked |= {chat: options[own] for own, chat in _OPTIONS.items() if own in options}
    asked["reasoning_effort"] = _effort(body.get("think"))
    schema = wanted_schema(body.get("format"))
    if schema is not None:
        wanted = {"name": "format", "schema": schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": wanted}
    asked["logprobs"] = body.get("logprobs") is True
    asked["top_logprobs"] = integer(body.get("top_logprobs"))
    return asked


def _effort(think: Any) -> str:
    if think is True:
        return "medium"
    return text(think) or "none"


def wanted_schema(given: Any) -> Any:
    """The schema of a ``format``: ``json``, a schema, or None for free text."""
    if given == "json":
        return ANY_OBJECT
    return given if isinstance(given, dict) and given else None


def _message(message: JSON) -> JSON:
    """Ollama gives a call's arguments as an object, and no id."""
    calls = [_call(mapping(mapping(c).get("function"))) for c in items(message.get("tool_calls"))]
    plain = {"role": message.get("role"), "content": message.get("content")}
    return {**plain, "tool_calls": calls} if calls else plain


def _call(function: JSON) -> JSON:
    arguments = json.dumps(function.get("arguments"), ensure_ascii=False)
    return {"function": {"name": function.get("name"), "arguments": arguments}}
