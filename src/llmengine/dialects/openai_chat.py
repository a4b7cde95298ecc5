"""OpenAI's chat completions, as OpenAI, vLLM, llama.cpp, SGLang, Ollama and gateways speak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llmengine.dialects import openai_answer
from llmengine.dialects.body import sampling_fields, with_extra
from llmengine.dialects.openai_content import with_twin_reasoning
from llmengine.dialects.openai_stream import OpenAIChatDecoder
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest, ResponseFormat

# Our names and OpenAI's are the same here; see CreateChatCompletionRequest in openai-openapi.
_STANDARD = {
    name: name
    for name in (
        "n",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
        "logit_bias",
        "logprobs",
    )
}

VLLM_EXTRAS: Mapping[str, str] = {
    name: name
    for name in (
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "bad_words",
        "structured_outputs",
        "prompt_logprobs",
        "return_token_ids",
    )
}
"""Sampling fields that vLLM's chat route takes besides OpenAI's."""

LLAMACPP_EXTRAS: Mapping[str, str] = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "ignore_eos": "ignore_eos",
}
"""Sampling fields that llama.cpp's chat route takes besides OpenAI's, under its names."""

# vLLM 0.32 takes the field on a stream, answers 200, and never sends what was asked for.
_NOT_IN_STREAMS = (
    "sampling parameter 'prompt_logprobs' does nothing on a stream: servers leave them out of it; "
    "use generate or results"
)

_JOINED = frozenset({"chat_template_kwargs", "stream_options"})


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """The chat completions format, with switches for what differs between servers.

    ``max_tokens_field``: the name of the token limit. ``extras``: sampling fields beyond
    OpenAI's that the server takes, as {our name: its name}; others are refused.
    ``stream_usage``: whether to ask for the usage of a stream. ``thinking_kwarg``: the chat
    template variable that turns reasoning on and off (vLLM, SGLang: often "enable_thinking");
    without one, a bool is said as an effort. ``done_completes``: take ``[DONE]`` after some
    content as the end of an answer that never got a finish_reason (Ollama sends null there);
    off, such an answer is incomplete, whole or streamed. ``strict_tools``: say "strict" of tools
    that must be called, without which vLLM leaves their arguments to the model.
    ``twin_reasoning``: say the reasoning of earlier answers under both its names, for old and new
    versions of vLLM.
    """

    path: str = "/chat/completions"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extras: Mapping[str, str] = field(default_factory=dict)
    stream_usage: bool = True
    thinking_kwarg: str | None = None
    done_completes: bool = False
    strict_tools: bool = False
    twin_reasoning: bool = False
    stream_type: str = "text/event-stream"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter that the server has no field for.
        """
        messages = list(request.messages)
        if self.twin_reasoning:
            messages = [with_twin_reasoning(message) for message in messages]
        body: dict[str, Any] = {"model": request.model, "messages": messages}
        body |= self._sampling(request)
        if request.response_format is not None:
            body["response_format"] = _response_format(request.response_format)
        if request.tools:
            body["tools"] = self._tools(request)
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        body |= self._reasoning(request.reasoning)
        if request.stream:
            body["stream"] = True
            if self.stream_usage:
                body["stream_options"] = {"include_usage": True}
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a whole, successful body; UnexpectedResponseError if it is none."""
        return openai_answer.decode(body, request, null_completes=self.done_completes)

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OpenAIChatDecoder(request, done_completes=self.done_completes)

    def _sampling(self, request: ChatRequest) -> dict[str, Any]:
        names = {**_STANDARD, "max_tokens": self.max_tokens_field, **self.extras}
        fields = sampling_fields(request.sampling, names, "the OpenAI chat format of this server")
        if request.stream and fields.get("prompt_logprobs") is not None:
            raise InvalidRequestError(_NOT_IN_STREAMS)
        count = fields.pop("logprobs", None)
        if count is not None:
            fields["logprobs"] = True
            if count:
                fields["top_logprobs"] = count
        if "logit_bias" in fields:
            fields["logit_bias"] = {str(k): v for k, v in fields["logit_bias"].items()}
        return fields

    def _tools(self, request: ChatRequest) -> list[Mapping[str, Any]]:
        """The tools, strict where one must be called; what a tool says itself stays."""
        choice = request.tool_choice
        if not self.strict_tools or not (choice == "required" or isinstance(choice, Mapping)):
            return list(request.tools)
        wanted = None if isinstance(choice, str) else choice.get("function", {}).get("name")
        return [_strict(tool, wanted) for tool in request.tools]

    def _reasoning(self, reasoning: bool | str | None) -> dict[str, Any]:
        if reasoning is None:
            return {}
        if isinstance(reasoning, str):
            return {"reasoning_effort": reasoning}
        if self.thinking_kwarg is not None:
            return {"chat_template_kwargs": {self.thinking_kwarg: reasoning}}
        # OpenAI has no plain switch: "none" is off, "medium" is what it does when left alone.
        return {"reasoning_effort": "medium" if reasoning else "none"}


def _strict(tool: Mapping[str, Any], wanted: str | None) -> Mapping[str, Any]:
    """The tool, marked as strict if it is a function that may be the one that is called."""
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" in function:
        return tool
    if wanted is not None and function.get("name") != wanted:
        return tool
    return {**tool, "function": {**function, "strict": True}}


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    schema = {"name": wanted.name, "schema": wanted.schema, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}
