"""OpenAI's responses API, spoken for what chat is: messages in, an answer out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.dialects import responses_answer
from llmengine.dialects.body import sampling_fields, with_extra
from llmengine.dialects.responses_input import input_items
from llmengine.dialects.responses_stream import ResponsesDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest, ResponseFormat

# See CreateResponse in openai-openapi: n, seed, stop, penalties and logit_bias are not there.
_SAMPLING = {
    "max_tokens": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "top_logprobs",
}
_JOINED = frozenset({"reasoning", "text"})


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The responses format; nothing is stored at the server unless ``extra_body`` says so.

    ``advice`` is what a user can do about a sampling parameter that the format cannot say.
    """

    path: str = "/responses"
    stream_type: str = "text/event-stream"
    advice: str = "leave it out"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter or a message that this API has no
        field for.
        """
        body: dict[str, Any] = {
            "model": request.model,
            "input": input_items(request.messages),
            "store": False,
        }
        body |= self._sampling(request)
        if request.response_format is not None:
            body["text"] = {"format": _format(request.response_format)}
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.reasoning is not None:
            body["reasoning"] = {"effort": _effort(request.reasoning)}
        if request.stream:
            body["stream"] = True
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a whole body; UnexpectedResponseError if it is none."""
        return responses_answer.decode(body, request)

    def decoder(self, request: ChatRequest) -> ResponsesDecoder:
        """A new decoder for the streamed answer to `request`."""
        return ResponsesDecoder(request)

    def _sampling(self, request: ChatRequest) -> dict[str, Any]:
        fields = sampling_fields(
            request.sampling, _SAMPLING, "OpenAI's responses API", advice=self.advice
        )
        if "top_logprobs" in fields:
            fields["include"] = ["message.output_text.logprobs"]
        return fields


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as chat has it, flattened; a tool of the server's own stays as it is."""
    if "function" not in tool:
        return dict(tool)
    # Left out, strict means true here and false in chat.
    return {"type": "function", "strict": False, **tool["function"]}


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    if isinstance(choice, str) or "function" not in choice:
        return choice
    return {"type": "function", "name": choice["function"]["name"]}


def _effort(reasoning: bool | str) -> str:
    """As in chat: OpenAI has no plain switch; "medium" is what it does when left alone."""
    if isinstance(reasoning, str):
        return reasoning
    return "medium" if reasoning else "none"
