"""Ollama's native ``/api/chat``, which says more than its OpenAI-style route.

Only here can ``num_ctx``, ``keep_alive`` and a schema be set; see docs/api.md of Ollama.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.dialects import ollama_answer
from llmengine.dialects.body import sampling_fields, with_extra
from llmengine.dialects.ollama_ignored import IN_NATIVE, offers_tools, refuse_ignored
from llmengine.dialects.ollama_messages import to_ollama
from llmengine.dialects.ollama_prompt import WHOLE
from llmengine.dialects.ollama_stream import OllamaChatDecoder

if TYPE_CHECKING:
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest

_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_NAMES = {**_OPTIONS, "logprobs": "logprobs"}
_JOINED = frozenset({"options"})
_ROUTE = "Ollama's /api/chat"


@dataclass(frozen=True, slots=True)
class OllamaChat:
    """The native chat format; its route lies under the server's root, not under ``/v1``.

    ``extra_body`` may hold ``keep_alive`` and ``options`` (``num_ctx`` and others), which are
    joined with the options that the sampling parameters make. The prompt is never cut to the
    context, unless ``extra_body`` says ``truncate: true``; then Ollama does as it does by itself.
    """

    path: str = "/api/chat"
    stream_type: str = "application/x-ndjson"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for what the format cannot say: several answers, biased
        tokens, a forced tool, an image that is not inline, and others.
        """
        refuse_ignored(request, IN_NATIVE, _ROUTE)
        body: dict[str, Any] = {"model": request.model, "messages": to_ollama(request.messages)}
        body["stream"] = request.stream  # left out, Ollama streams
        if request.extra_body.get("truncate") is not True:
            body |= WHOLE
        body |= _sampling(request)
        if request.response_format is not None:
            schema = request.response_format.schema
            body["format"] = "json" if schema is None else schema
        if offers_tools(request, _ROUTE):
            body["tools"] = list(request.tools)
        if request.reasoning is not None:
            # "none" is OpenAI's word for off.
            body["think"] = False if request.reasoning == "none" else request.reasoning
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a whole, successful body; UnexpectedResponseError if it is none."""
        return ollama_answer.decode(body, request)

    def decoder(self, request: ChatRequest) -> OllamaChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OllamaChatDecoder(request)


def _sampling(request: ChatRequest) -> dict[str, Any]:
    options = sampling_fields(request.sampling, _NAMES, _ROUTE)
    fields: dict[str, Any] = {}
    count = options.pop("logprobs", None)
    if count is not None:
        fields["logprobs"] = True
        if count:
            fields["top_logprobs"] = count
    if options:
        fields["options"] = options
    return fields
