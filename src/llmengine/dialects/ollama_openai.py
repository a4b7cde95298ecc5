"""Ollama's OpenAI-compatible chat, which ignores fields and may cut the prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.dialects import openai_answer
from llmengine.dialects.ollama_ignored import IN_V1, offers_tools, refuse_ignored
from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.dialects.openai_stream import OpenAIChatDecoder

if TYPE_CHECKING:
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import ChatRequest


_ROUTE = "Ollama's /v1"


class OllamaOpenAIChat(OpenAIChat):
    """OpenAI's chat format without what Ollama ignores of it.

    Answers are held against what Ollama says it read of the prompt.
    """

    __slots__ = ()

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send; raises InvalidRequestError for what Ollama would ignore."""
        refuse_ignored(request, IN_V1, _ROUTE)
        tools = request.tools if offers_tools(request, _ROUTE) else ()
        return OpenAIChat.encode(self, replace(request, tools=tools, tool_choice=None))

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer; raises ContextLengthError if the server read less than the whole prompt."""
        output = openai_answer.decode(body, request)
        refuse_a_cut_prompt(output, request)
        return output

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder, whose `finish` raises as `decode` does."""
        return _Decoder(request)


class _Decoder(OpenAIChatDecoder):
    __slots__ = ()

    def finish(self) -> LLMOutput:
        output = OpenAIChatDecoder.finish(self)
        refuse_a_cut_prompt(output, self._request)
        return output
