"""Lines of a batch as the requests and outputs that a span is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.openai_chat import decode
from llmengine.types.errors import CallError, InvalidRequestError
from llmengine.types.request import ChatRequest, ResponseFormat, to_messages
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.batch.lines import BatchRequest
    from llmengine.types.outputs import LLMOutput

_CHAT = "/v1/chat/completions"
# The conventions name no more of a request than this.
_SAMPLING = (
    "temperature",
    "top_p",
    "max_tokens",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "n",
)


def traced(request: BatchRequest, model: str) -> ChatRequest | None:
    """A chat line as the request that it makes; None for other routes, which have no spans.

    Nothing is checked: what is wrong with a line is the server's to say, and is left out here.
    """
    if request.url != _CHAT:
        return None
    body = request.body
    messages: Any = body.get("messages")
    shape = body.get("response_format")
    try:
        said, sampling = to_messages(messages), _sampling(body)
    except InvalidRequestError:
        said, sampling = (), SamplingParams()
    return ChatRequest(
        model=str(body.get("model", model)),
        prompt=messages,
        messages=said,
        sampling=sampling,
        response_format=ResponseFormat() if shape else None,
        tools=tuple(body.get("tools") or ()),
    )


def _sampling(body: dict[str, Any]) -> SamplingParams:
    return SamplingParams(**{name: body[name] for name in _SAMPLING if name in body})


def output_of(body: bytes, request: ChatRequest) -> LLMOutput | None:
    """The answer for the span; None for one that the batch keeps and we cannot read."""
    try:
        return decode(body, request)
    except CallError:
        return None
