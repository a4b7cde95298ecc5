"""Ollama's OpenAI-compatible chat, which cannot be told to leave the prompt whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.dialects import openai_answer
from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.dialects.openai_stream import OpenAIChatDecoder

if TYPE_CHECKING:
    from llmengine.values.outputs import LLMOutput
    from llmengine.values.request import ChatRequest


class OllamaOpenAIChat(OpenAIChat):
    """OpenAI's chat format with answers held against what Ollama says it read of the prompt."""

    __slots__ = ()

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
