"""vLLM's outputs as the responses of vLLM's own server, so that one dialect reads both.

A `Job` is one request on its way through vLLM. A reader turns the text of an answer into a message:
`ParsedReader` finds reasoning and tool calls with vLLM's own parsers, as vLLM's server does;
`PlainReader` leaves the text as it is.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from llmengine.dialects.openai_chat import VLLM_EXTRAS, OpenAIChat
from llmengine.types.errors import ConfigError, InternalServerError
from llmengine.types.sampling import SamplingParams
from llmengine.vllm_local.params import chat_arguments

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmengine.types.request import ChatRequest
    from llmengine.types.wire import (
        ChatCompletion,
        ChatCompletionChunk,
        ChatCompletionMessage,
        ChoiceFields,
        ChoiceLogprobs,
        ChunkChoice,
        CompletionUsage,
        FunctionToolCall,
        MessageDelta,
        PromptLogprob,
        TokenLogprob,
        TopLogprob,
    )
    from llmengine.vllm_local.vllm_objects import (
        Completion,
        ParamsOfAnswer,
        ParsedCall,
        RequestOutput,
        VLLMLogprob,
    )


END = None
"""The item after the last chunk of a stream."""
# The sampling parameters that vLLM's parsers use.
_OF_PARSERS = frozenset({"n", "structured_outputs", "skip_special_tokens"})
_SERVER = OpenAIChat(extras=VLLM_EXTRAS, thinking_kwarg="enable_thinking")
# The log probability that vLLM's server reports for minus infinity, which JSON cannot express.
_LOWEST = -9999.0
Readers = Callable[["ChatRequest"], "Reader"]
"""Makes a reader for the answers to a request."""


@dataclass(slots=True, eq=False)
class Job:
    """A request and a queue of the answers to it; the queue belongs to the background loop.

    An answer is the body of a chat completion. For a stream it is the body of a chunk, and END
    after the last one. It may also be the exception that ended the job. ``is_over`` says whether
    the last answer has arrived.
    """

    request: ChatRequest
    is_over: bool = field(default=False, init=False)
    _answers: asyncio.Queue[object] = field(default_factory=asyncio.Queue, init=False)

    def take(self, answer: object) -> None:
        """Add an answer that has arrived."""
        ends_stream = answer is END or isinstance(answer, Exception)
        self.is_over = ends_stream or not self.request.stream
        self._answers.put_nowait(answer)

    async def answer(self) -> object:
        """The next answer; if it is an exception, it is raised."""
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Reader(Protocol):
    """Reads the answers to one request: turns each ``CompletionOutput`` of vLLM into a message."""

    def adjust(self, params: ParamsOfAnswer) -> None:
        """Set in ``vllm.SamplingParams`` what the reader needs."""
        ...

    def message(self, answer: Completion, prompt: list[int] | None) -> ChatCompletionMessage:
        """The message of a whole answer to the tokens of `prompt`."""
        ...

    def delta(self, answer: Completion, prompt: list[int] | None) -> MessageDelta:
        """What a step's text and tokens add to the message."""
        ...

    def finish_reason(self, answer: Completion) -> str | None:
        """Why the answer ended, once it has been read."""
        ...

    @property
    def reasoning_tokens(self) -> int | None:
        """How many of the tokens read so far were reasoning; None if they are not counted."""
        ...


class PlainReader:
    """Leaves the text as it is; the dialect reads ``<think>`` tags in it."""

    reasoning_tokens: int | None = None

    def adjust(self, params: ParamsOfAnswer) -> None:
        """Do nothing, since nothing is needed."""

    def message(self, answer: Completion, prompt: list[int] | None) -> ChatCompletionMessage:  # noqa: ARG002 - see Reader
        """The text is the content."""
        return {"content": answer.text}

    def delta(self, answer: Completion, prompt: list[int] | None) -> MessageDelta:  # noqa: ARG002 - see Reader
        """The text is the content."""
        return {"content": answer.text}

    def finish_reason(self, answer: Completion) -> str | None:
        """The reason that vLLM gives."""
        return answer.finish_reason


def parsers_of(llm: Any, reasoning: object, tools: object) -> Parsers:
    """The parsers of an LLM, by vLLM's names for them; at least one name is given.

    Raises ConfigError for a name that vLLM does not know, a model that the parser does not
    support, and a version of vLLM without such parsers.
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
    """The parsers of one LLM, from which a reader is made for each request."""

    parser_class: Any
    llm: Any

    def reader(self, request: ChatRequest) -> ParsedReader:
        """A reader of the answers to that request."""
        from vllm.entrypoints.openai.chat_completion import protocol  # noqa: PLC0415 - as above

        used = {k: v for k, v in request.sampling.given().items() if k in _OF_PARSERS}
        body = _SERVER.encode(replace(request, sampling=SamplingParams(**used)))
        asked = protocol.ChatCompletionRequest.model_validate(body)
        variables = chat_arguments(request).get("chat_template_kwargs", {})
        return ParsedReader(asked, lambda: self._parser(asked, variables))

    def _parser(self, asked: Any, variables: object) -> Any:
        """A new parser for one answer to `asked`, a request object of vLLM's server."""
        return self.parser_class(
            self.llm.get_tokenizer(),
            asked.tools,
            chat_template_kwargs=variables,
            model_config=self.llm.model_config,
        )


class ParsedReader:
    """Reads the answers to one request, each with its own parser, since parsers keep state."""

    def __init__(self, asked: Any, make_parser: Callable[[], Any]) -> None:
        self._asked = make_parser().adjust_request(asked)
        self._parsers = defaultdict[int, Any](make_parser)
        self._token_ids: defaultdict[int, list[int]] = defaultdict(list)
        self._called: set[int] = set()

    def adjust(self, params: ParamsOfAnswer) -> None:
        """Set in ``vllm.SamplingParams`` what the parsers need, such as a constraint for calls."""
        params.structured_outputs = self._asked.extract_structured_outputs()
        params.skip_special_tokens = self._asked.skip_special_tokens

    def message(self, answer: Completion, prompt: list[int] | None) -> ChatCompletionMessage:
        """The message of a whole answer."""
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

    def delta(self, answer: Completion, prompt: list[int] | None) -> MessageDelta:
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
        fields: MessageDelta = delta.model_dump(exclude_none=True)
        return fields

    def finish_reason(self, answer: Completion) -> str | None:
        """Why the answer ended, in the words of vLLM's server.

        As in OpenAI's API, the reason is "stop" if the caller named the tool to call. If the model
        chose to call a tool and the answer is not a stream, the reason is "tool_calls" even if a
        limit cut the rest of the answer.
        """
        choice, reason = self._asked.tool_choice, answer.finish_reason
        named = not isinstance(choice, (str, type(None)))
        chosen = choice in (None, "auto") and not self._asked.stream
        if answer.index in self._called and not named and (chosen or reason == "stop"):
            return "tool_calls"
        return reason

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens so far were reasoning."""
        counted = self._token_ids.items()
        return sum(self._parsers[place].count_reasoning_tokens(ids) for place, ids in counted)


def _call(call: ParsedCall) -> FunctionToolCall:
    return {
        "id": call.id or f"call_{uuid4().hex}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


class Answers:
    """Turns vLLM's outputs for one request into the response bodies of vLLM's server."""

    def __init__(self, request: ChatRequest, reader: Reader) -> None:
        self._request = request
        self._reader = reader
        self._generated = 0

    def of(self, output: RequestOutput) -> Iterator[ChatCompletion | ChatCompletionChunk | None]:
        """The bodies for a ``vllm.RequestOutput``: a whole answer, or new chunks of a stream.

        Raises InternalServerError for an answer that vLLM ended with an internal error.
        """
        self._generated += sum(len(o.token_ids) for o in output.outputs)
        if not self._request.stream:
            yield self._whole(output)
            return
        read, prompt = self._reader.delta, output.prompt_token_ids
        yield self._chunk(
            output, [{"delta": read(o, prompt), **self._choice(o)} for o in output.outputs]
        )
        if output.finished:
            yield self._chunk(output, []) | {"usage": self._usage(output)}
            yield END

    def _whole(self, output: RequestOutput) -> ChatCompletion:
        read, prompt = self._reader.message, output.prompt_token_ids
        return {
            "id": output.request_id,
            "model": self._request.model,
            "prompt_token_ids": prompt,
            "choices": [{"message": read(o, prompt), **self._choice(o)} for o in output.outputs],
            "prompt_logprobs": _prompt_logprobs(output.prompt_logprobs),
            "usage": self._usage(output),
        }

    def _chunk(self, output: RequestOutput, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        return {
            "id": output.request_id,
            "model": self._request.model,
            "prompt_token_ids": output.prompt_token_ids,
            "choices": choices,
        }

    def _choice(self, answer: Completion) -> ChoiceFields:
        if answer.finish_reason == "error":
            raise InternalServerError("vLLM ended the answer by an error of its own")
        return {
            "index": answer.index,
            "token_ids": list(answer.token_ids),
            "logprobs": _logprobs(answer, self._request.sampling.logprobs or 0),
            "finish_reason": self._reader.finish_reason(answer),
            "stop_reason": answer.stop_reason,
        }

    def _usage(self, output: RequestOutput) -> CompletionUsage:
        prompt = len(output.prompt_token_ids or ())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._generated,
            "total_tokens": prompt + self._generated,
            "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self._reader.reasoning_tokens},
        }


def _logprobs(answer: Completion, count: int) -> ChoiceLogprobs | None:
    """The chosen tokens, each with the most likely alternatives, as many as were asked for."""
    if answer.logprobs is None:
        return None
    content: list[TokenLogprob] = []
    for token_id, place in zip(answer.token_ids, answer.logprobs, strict=True):
        # vLLM puts the chosen token first, even if it is not among the most likely.
        top = sorted(place.values(), key=lambda logprob: logprob.rank)[:count]
        content.append({**_logprob(place[token_id]), "top_logprobs": [_logprob(t) for t in top]})
    return {"content": content}


def _logprob(given: VLLMLogprob) -> TopLogprob:
    token = given.decoded_token or ""
    raw = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": max(given.logprob, _LOWEST), "bytes": raw}


def _prompt_logprobs(
    places: Sequence[Mapping[int, VLLMLogprob] | None] | None,
) -> list[dict[str, PromptLogprob] | None] | None:
    if places is None:
        return None
    return [
        None if place is None else {str(token): _prompt_logprob(p) for token, p in place.items()}
        for place in places
    ]


def _prompt_logprob(given: VLLMLogprob) -> PromptLogprob:
    return {"logprob": max(given.logprob, _LOWEST), "decoded_token": given.decoded_token}
