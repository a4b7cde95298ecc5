"""Reasoning and tool calls, read by vLLM's own parsers, put together as its server does."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.types.errors import ConfigError
from llmengine.types.sampling import SamplingParams
from llmengine.vllm_local.rendering import chat_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.reading import Message

# Sampling parameters that the parsers look at.
_OF_PARSERS = frozenset({"n", "structured_outputs", "skip_special_tokens"})
_SERVER = OpenAIChat(extras=VLLM_EXTRAS, thinking_kwarg="enable_thinking")


def parsers_of(llm: Any, reasoning: str | None, tools: str | None) -> Parsers:
    """The parsers of an LLM by vLLM's names for them, of which at least one is given.

    Raises ConfigError for a name that vLLM does not know, a model that lacks what the parser looks
    for, and a vLLM without such parsers.
    """
    manager = _manager()
    try:
        parser_class = manager.get_parser(
            tool_parser_name=tools,
            reasoning_parser_name=reasoning,
            enable_auto_tools=True,
            model_name=llm.model_config.model,
            is_harmony=llm.model_config.hf_config.model_type == "gpt_oss",
            tokenizer=llm.get_tokenizer(),
        )
    except Exception as error:
        msg = (
            f"options: reasoning_parser is {reasoning!r}, tool_call_parser is {tools!r}, which "
            f"vLLM cannot use with this model: {error}"
        )
        raise ConfigError(msg) from error
    return Parsers(parser_class, llm)


def _manager() -> Any:
    try:
        from vllm.parser import Parser, ParserManager  # noqa: PLC0415 - optional, slow to import

        if not hasattr(Parser, "set_prompt_token_ids"):
            raise ImportError
    except ImportError as error:
        msg = "reasoning_parser and tool_call_parser in process need vLLM 0.32 or later"
        raise ConfigError(msg) from error
    return ParserManager


@dataclass(frozen=True, slots=True)
class Parsers:
    """The parsers of one LLM; makes a reader for each request."""

    parser_class: Any
    llm: Any

    def reader(self, request: ChatRequest) -> ParsedReader:
        """A reader of the answers to that request."""
        from vllm.entrypoints.openai.chat_completion import protocol  # noqa: PLC0415 - as above

        kept = {k: v for k, v in request.sampling.given().items() if k in _OF_PARSERS}
        body = _SERVER.encode(replace(request, sampling=SamplingParams(**kept)))
        asked = protocol.ChatCompletionRequest.model_validate(body)
        variables = chat_arguments(request).get("chat_template_kwargs", {})
        return ParsedReader(asked, lambda: self._parser(asked, variables))

    def _parser(self, asked: Any, variables: Mapping[str, Any]) -> Any:
        """A new parser for one answer to `asked`, a request as vLLM's server has it."""
        return self.parser_class(
            self.llm.get_tokenizer(),
            asked.tools,
            chat_template_kwargs=variables,
            model_config=self.llm.model_config,
        )


class ParsedReader:
    """Reads the answers to one request, each by a parser of its own, since parsers keep state."""

    def __init__(self, asked: Any, make_parser: Callable[[], Any]) -> None:
        self._asked = make_parser().adjust_request(asked)
        self._parsers = defaultdict[int, Any](make_parser)
        self._token_ids: defaultdict[int, list[int]] = defaultdict(list)
        self._called: set[int] = set()

    def adjust(self, params: Any) -> None:
        """Put into ``vllm.SamplingParams`` what the parsers need, such as a form for the calls."""
        params.structured_outputs = self._asked.extract_structured_outputs()
        params.skip_special_tokens = self._asked.skip_special_tokens

    def message(self, answer: Any, prompt: list[int]) -> Message:
        """The message in a whole answer."""
        self._token_ids[answer.index] += answer.token_ids
        parser = self._parsers[answer.index]
        parser.set_prompt_token_ids(prompt)
        reasoning, content, calls = parser.parse(
            answer.text,
            self._asked,
            enable_auto_tools=True,
            model_output_token_ids=answer.token_ids,
        )
        if calls:
            self._called.add(answer.index)
        return {
            "content": content,
            "reasoning": reasoning,
            "tool_calls": [_call(call) for call in calls or ()],
        }

    def delta(self, answer: Any, prompt: list[int]) -> Message:
        """What a step's text and tokens add to the message."""
        self._token_ids[answer.index] += answer.token_ids
        delta = self._parsers[answer.index].parse_delta(
            delta_text=answer.text,
            delta_token_ids=list(answer.token_ids),
            request=self._asked,
            prompt_token_ids=prompt,
            finished=answer.finish_reason is not None,
        )
        if delta is None:
            return {}
        if delta.tool_calls:
            self._called.add(answer.index)
        said: Message = delta.model_dump(exclude_none=True)
        return said

    def finish_reason(self, answer: Any) -> str | None:
        """Why the answer ended, in the words of vLLM's server.

        As in OpenAI's API, calls of a tool named by the caller "stop". Where the model chose to
        call and the answer is no stream, calls count for more than the limit that cut the rest.
        """
        choice, reason = self._asked.tool_choice, answer.finish_reason
        named = not isinstance(choice, (str, type(None)))
        chosen = choice in (None, "auto") and not self._asked.stream
        if answer.index in self._called and not named and (chosen or reason == "stop"):
            return "tool_calls"
        ended: str | None = reason
        return ended

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens so far were reasoning."""
        counted = self._token_ids.items()
        return sum(self._parsers[place].count_reasoning_tokens(ids) for place, ids in counted)


def _call(call: Any) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_{uuid4().hex}", "type": "function", "function": function}
