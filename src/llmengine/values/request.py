"""One frozen value that holds all that a dialect needs to know of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.values.sampling import SamplingParams

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The shape asked of the answer: any JSON object, or one that fits ``schema``."""

    schema: Mapping[str, Any] | None = None
    name: str = "answer"
    strict: bool = True


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat call, free of any wire format.

    ``prompt`` is what the caller gave and comes back on the output; ``messages`` is its normal
    form. ``output_model`` is what the answer is validated with. ``tools`` and ``tool_choice``
    are in OpenAI's spelling. ``reasoning`` is None (leave it to the server), a bool, or an
    effort such as "low". ``extra_body`` goes into the body as it is.
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
