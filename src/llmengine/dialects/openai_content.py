"""What an assistant's message says, as text and as reasoning, in every shape that servers send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.fields import FieldError, objects, required_text, text
from llmengine.dialects.quote import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import Message

_TEXT_FIELDS = {"text": "text", "output_text": "text", "refusal": "refusal"}


def content(message: Mapping[str, Any], path: str) -> str:
    """The text of a message or a delta: a string, parts, or, in their place, a refusal.

    Raises FieldError for a part that is neither text nor reasoning, since it would be lost.
    """
    said = message.get("content")
    if isinstance(said, str):
        return said
    if said is None:
        return text(message, "refusal", path) or ""
    where = f"{path}content"
    parts = objects(message, "content", path)
    return "".join([_text(part, where) for part in parts if part.get("type") != "thinking"])


def reasoning(message: Mapping[str, Any], path: str) -> str:
    """The reasoning of a message or a delta, where the server parts it from the text.

    vLLM says ``reasoning``, older versions and other servers ``reasoning_content``; Mistral sends
    parts of type ``thinking``, which hold parts of text in turn.
    """
    for name in ("reasoning", "reasoning_content"):
        if name in message and (said := text(message, name, path)):
            return said
    if not isinstance(message.get("content"), list):
        return ""
    where = f"{path}content."
    parts = objects(message, "content", path)
    return "".join([_thought(part, where) for part in parts if part.get("type") == "thinking"])


def with_twin_reasoning(message: Message) -> Message:
    """The message with the reasoning that it has under one of its two names under both."""
    said = message.get("reasoning") or message.get("reasoning_content")
    return {**message, "reasoning": said, "reasoning_content": said} if said else message


def _thought(part: Mapping[str, Any], path: str) -> str:
    if isinstance(part.get("thinking"), list):
        return "".join([_text(p, f"{path}thinking") for p in objects(part, "thinking", path)])
    return required_text(part, "thinking", path)


def _text(part: Mapping[str, Any], where: str) -> str:
    kind = required_text(part, "type", f"an item of {where}.")
    if kind not in _TEXT_FIELDS:
        raise FieldError(f"a part of {where} is of type {quote(kind)!r}, which is not read yet")
    return required_text(part, _TEXT_FIELDS[kind], f"{where}.")
