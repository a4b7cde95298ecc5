"""Translates the request bodies of Anthropic's Messages API to chat bodies.

These functions accept any JSON, because validation rules may be switched off.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from llmengine.mock.json_fields import Body, integer, items, mapping, number, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON


_TOP_P_OF_ONE_TOKEN = 0.1  # below it, only the likeliest token is left
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def messages_as_chat(body: Body) -> Body:
    """The body of a request for a message, or for its number of tokens, as a chat body."""
    system = plain_text(body.get("system"))
    turns = [m for message in items(body.get("messages")) for m in _turns(mapping(message))]
    first: list[JSON] = [{"role": "system", "content": system}] if system else []
    chat: dict[str, object] = {
        "model": body.get("model"),
        "messages": [*first, *turns],
        "max_tokens": body.get("max_tokens"),
        "stop": body.get("stop_sequences"),
        "temperature": _temperature(body),
        "reasoning_effort": "medium" if thinks(body) else "none",
    }
    if tools := items(body.get("tools")):
        chat |= {"tools": [_tool(mapping(t)) for t in tools], **_choice(body)}
    schema = mapping(mapping(body.get("output_config")).get("format")).get("schema")
    if schema is not None:
        wanted: JSON = {"schema": schema, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": wanted}
    return chat


def thinks(body: Body) -> bool:
    """Whether the request asks for blocks of thinking."""
    return text(mapping(body.get("thinking")).get("type")) in {"enabled", "adaptive"}


def plain_text(content: object) -> str:
    """A content as one text: the string, or its text blocks joined."""
    if isinstance(content, str):
        return content
    return "".join(text(mapping(block).get("text")) for block in items(content))


def _temperature(body: Body) -> float:
    """The temperature; 0 if another parameter leaves only the likeliest token."""
    one = integer(body.get("top_k")) == 1 or number(body.get("top_p"), 1) < _TOP_P_OF_ONE_TOKEN
    return 0 if one else number(body.get("temperature"), 1)


def _turns(message: Body) -> Iterator[JSON]:
    """The chat messages of one message: the tool results first, as they answer the last turn."""
    content = message.get("content")
    blocks = [mapping(block) for block in items(content)]
    for block in blocks:
        if block.get("type") == "tool_result":
            result = plain_text(block.get("content"))
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": result}
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    said = plain_text(content)
    if said or calls or not blocks:
        turn: JSON = {"role": message.get("role"), "content": said}
        yield {**turn, "tool_calls": calls} if calls else turn


def _call(block: Body) -> JSON:
    arguments = json.dumps(block.get("input"), ensure_ascii=False)
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def _tool(tool: Body) -> JSON:
    function = {k: tool[k] for k in ("name", "description") if k in tool}
    schema = mapping(tool.get("input_schema"))
    return {"type": "function", "function": {**function, "parameters": schema}}


def _choice(body: Body) -> Body:
    choice = mapping(body.get("tool_choice"))
    kind = text(choice.get("type"))
    named = {"type": "function", "function": {"name": choice.get("name")}}
    return {
        "tool_choice": named if kind == "tool" else _CHOICES.get(kind, "auto"),
        "parallel_tool_calls": choice.get("disable_parallel_tool_use") is not True,
    }
