"""Chat requests in a form that no wire format prescribes: the messages and options of a call."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from llmengine.types.sampling import SamplingParams
    from llmengine.types.wire import UserMessage


Message = Mapping[str, object]
"""A message with a "role", in OpenAI's format; nothing else in it is checked."""

Prompt = str | Sequence[Message]
"""What a caller gives: the text of one user message, or the messages of a chat."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The required shape of the answer: any JSON object, or one that fits ``schema``."""

    schema: Mapping[str, object] | None = None
    name: str = "answer"
    strict: bool = True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat call, in a form that every dialect can write in its own format.

    ``prompt`` is what the caller gave, and is part of the output; ``messages`` is its normal
    form. ``output_model`` is the type that validates the answer. ``tools`` and ``tool_choice``
    are in OpenAI's format. ``reasoning`` is None (leave it to the server), a bool, or an effort
    such as "low". ``extra_body`` is added to the body as it is.
    """

    model: str
    prompt: object
    messages: tuple[Message, ...]
    sampling: SamplingParams
    stream: bool = False
    response_format: ResponseFormat | None = None
    output_model: object = None
    tools: tuple[Mapping[str, object], ...] = ()
    tool_choice: str | Mapping[str, object] | None = None
    reasoning: bool | str | None = None
    extra_body: Mapping[str, object] = field(default_factory=dict)
    request_id: str = ""


def to_messages(prompt: Prompt, *, index: int = 0) -> tuple[Message, ...]:
    """A prompt as a tuple of chat messages; a string becomes one user message.

    Raises InvalidRequestError, which names the prompt by its position in the batch.
    """
    if isinstance(prompt, str):
        message: UserMessage = {"role": "user", "content": prompt}
        return (message,)
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


def one_token_chat(model: str) -> dict[str, object]:
    """The body of the cheapest chat, which shows whether a server answers with a model."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1,
    }


def _message(message: object, index: int, place: int) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        msg = (
            f"prompt {index}, message {place} is {reprlib.repr(message)}; "
            "a message is a mapping with a 'role' string, such as {'role': 'user', 'content': 'Hi'}"
        )
        raise InvalidRequestError(msg)
    return dict(message)


class Capability(StrEnum):
    """An optional feature of a server, beyond plain chat."""

    STREAMING = "streaming"
    TOOLS = "tools"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    LOGPROBS = "logprobs"
    N = "n"
    SEED = "seed"
    LOGIT_BIAS = "logit_bias"
    REASONING = "reasoning"
    VISION = "vision"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    AUTH = "auth"
