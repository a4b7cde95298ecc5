"""Chat messages as the input items of OpenAI's responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.types.request import Message

_READ = frozenset({"role", "content", "tool_calls", "tool_call_id"})
# What a server adds to its answers, so that they come back when an answer is sent as it was.
_ANSWERS_OWN = frozenset({"annotations", "reasoning", "reasoning_content", "refusal"})


def input_items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The items, in the order of the messages.

    Raises InvalidRequestError for a field of a message that an item has no place for.
    """
    return [item for message in messages for item in _items(message)]


def _items(message: Message) -> list[dict[str, Any]]:
    _refuse_unknown(message)
    role, content = message["role"], message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        output = content if isinstance(content, str) else _parts(content or (), "input")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    if content is None and calls:
        return calls
    side = "output" if role == "assistant" else "input"
    text = content if isinstance(content, str) else _parts(content or (), side)
    return [{"role": role, "content": text}, *calls]


def _refuse_unknown(message: Message) -> None:
    known = _READ | _ANSWERS_OWN if message["role"] == "assistant" else _READ
    for name, value in message.items():
        if name not in known and value is not None:
            msg = (
                f"a {message['role']} message has {name!r}, which OpenAI's responses API has no "
                "field for; leave it out, or use the chat API (options: {api: chat})"
            )
            raise InvalidRequestError(msg)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function["name"],
        "arguments": function.get("arguments") or "{}",
    }


def _parts(parts: Sequence[Mapping[str, Any]], side: str) -> list[dict[str, Any]]:
    return [_part(part, side) for part in parts]


def _part(part: Mapping[str, Any], side: str) -> dict[str, Any]:
    """One part of a message's content; a part in the responses API's own spelling stays."""
    if part.get("type") == "text":
        return {"type": f"{side}_text", "text": part["text"]}
    if part.get("type") == "image_url":
        image = part["image_url"]
        return {"type": "input_image", "image_url": image["url"]} | (
            {"detail": image["detail"]} if "detail" in image else {}
        )
    if part.get("type") == "file":
        return {"type": "input_file", **part["file"]}
    return dict(part)
