"""Prompts as callers give them, in one normal form."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmengine.values.errors import InvalidRequestError

if TYPE_CHECKING:
    from llmengine.values.request import Message

Prompt = str | Sequence[Mapping[str, Any]]


def to_messages(prompt: Prompt, *, index: int = 0) -> tuple[Message, ...]:
    """A prompt as a tuple of chat messages; a string becomes one user message.

    Raises InvalidRequestError that names the prompt by its place in the batch.
    """
    if isinstance(prompt, str):
        return ({"role": "user", "content": prompt},)
    if isinstance(prompt, (Mapping, bytes, bytearray)) or not isinstance(prompt, Sequence):
        msg = (
            f"prompt {index} is a {type(prompt).__name__}; "
            "give a string or a list of {'role': ..., 'content': ...} messages"
        )
        raise InvalidRequestError(msg)
    if not prompt:
        msg = f"prompt {index} is an empty list of messages; give at least one message"
        raise InvalidRequestError(msg)
    return tuple(_message(m, index, place) for place, m in enumerate(prompt))


def _message(message: object, index: int, place: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        msg = (
            f"prompt {index}, message {place} is {reprlib.repr(message)}; "
            "a message is a mapping with a 'role' string, such as {'role': 'user', 'content': 'Hi'}"
        )
        raise InvalidRequestError(msg)
    return dict(message)
