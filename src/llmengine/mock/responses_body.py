"""The body of the responses API in the terms of chat completions; it bears any JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import items, mapping, text

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

_CHOICES_WITHOUT_TOOLS = (None, "auto", "none")
_SAME = ("model", "temperature", "top_p", "parallel_tool_calls", "user", "metadata")


def as_chat(body: JSON, history: list[JSON] | None = None) -> JSON:
    """The chat body that asks the same, with the messages of an earlier response before it."""
    chat: JSON = {k: body[k] for k in _SAME if k in body}
    chat["messages"] = [*_instructions(body), *(history or ()), *messages(body.get("input"))]
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("tools"):
        chat["tools"] = [_tool(t) for t in items(body["tools"])]
    if body.get("tool_choice") not in _CHOICES_WITHOUT_TOOLS or "tools" in chat:
        chat["tool_choice"] = _tool_choice(body.get("tool_choice"))
    if effort := mapping(body.get("reasoning")).get("effort"):
        chat["reasoning_effort"] = effort
    if wanted := mapping(body.get("text")).get("format"):
        chat["response_format"] = _response_format(wanted)
    return chat


def _instructions(body: JSON) -> list[JSON]:
    given = text(body.get("instructions"))
    return [{"role": "system", "content": given}] if given else []


def messages(given: Any) -> list[JSON]:
    """The input's items as chat messages; a string is one user message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found = (_message(mapping(i)) for i in items(given))
    return [m for m in found if m is not None]


def _message(item: JSON) -> JSON | None:
    kind = item.get("type", "message")
    call_id = item.get("call_id")
    if kind == "message":
        return {"role": item.get("role"), "content": item.get("content")}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": call_id, "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": call_id, "content": item.get("output")}
    return None


def _tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return choice
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(wanted: Any) -> Any:
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return wanted
    if "schema" not in wanted:
        return {"type": "json_schema"}
    return {"type": "json_schema", "json_schema": wanted}
