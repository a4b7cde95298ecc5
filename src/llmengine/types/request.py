"""Chat requests, free of any wire format: prompts as messages, and all options of a call."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from llmengine.types.sampling import SamplingParams


Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The required shape of the answer: any JSON object, or one that fits ``schema``."""

    schema: Mapping[str, Any] | None = None
    name: str = "answer"
    strict: bool = True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat call with all that a dialect needs to know, free of any wire format.

    ``prompt`` is what the caller gave, and is part of the output; ``messages`` is its normal
    form. ``output_model`` is the type that validates the answer. ``tools`` and ``tool_choice``
    are in OpenAI's format. ``reasoning`` is None (leave it to the server), a bool, or an effort
    such as "low". ``extra_body`` is added to the body as it is.
    """

    model: str
    prompt: Any
    messages: tuple[Message, ...]
    sampling: SamplingParams
    stream: bool = False
    response_format: ResponseFormat | None = None
    output_model: Any = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    reasoning: bool | str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""


Prompt = str | Sequence[Mapping[str, Any]]


def to_messages(prompt: Prompt, *, index: int = 0) -> tuple[Message, ...]:
    """A prompt as a tuple of chat messages; a string becomes one user message.

    Raises InvalidRequestError, which names the prompt by its position in the batch.
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
    AUTH = "auth"
