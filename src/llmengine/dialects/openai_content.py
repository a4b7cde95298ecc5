"""What an assistant's message says, as text and as reasoning, in every shape that servers send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.values.request import Message

    Parts = Iterable[Mapping[str, Any]]

_TEXT_FIELDS = {"text": "text", "output_text": "text", "refusal": "refusal"}


def content(message: Mapping[str, Any]) -> str:
    """The text of a message or a delta: a string, parts, or, in their place, a refusal.

    Raises TypeError for a part that is neither text nor reasoning, since it would be lost.
    """
    text = message.get("content")
    if text is None:
        text = message.get("refusal") or ""
    elif isinstance(text, list):
        text = _text(part for part in text if part["type"] != "thinking")
    if not isinstance(text, str):
        raise TypeError("content is neither text nor null")
    return text


def reasoning(message: Mapping[str, Any]) -> str:
    """The reasoning of a message or a delta, where the server parts it from the text.

    vLLM says ``reasoning``, older versions and other servers ``reasoning_content``; Mistral sends
    parts of type ``thinking``, which hold parts of text in turn.
    """
    said: str = message.get("reasoning") or message.get("reasoning_content") or ""
    parts = message.get("content")
    if said or not isinstance(parts, list):
        return said
    return "".join([_thought(p["thinking"]) for p in parts if p["type"] == "thinking"])


def with_twin_reasoning(message: Message) -> Message:
    """The message with the reasoning that it has under one of its two names under both."""
    said = message.get("reasoning") or message.get("reasoning_content")
    return {**message, "reasoning": said, "reasoning_content": said} if said else message


def _thought(thinking: str | Parts) -> str:
    return thinking if isinstance(thinking, str) else _text(thinking)


def _text(parts: Parts) -> str:
    return "".join([part[_field(part["type"])] for part in parts])


def _field(kind: str) -> str:
    if kind not in _TEXT_FIELDS:
        raise TypeError(f"a part of the content is of type {kind!r}, which is not read yet")
    return _TEXT_FIELDS[kind]
