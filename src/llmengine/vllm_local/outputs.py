"""vLLM's outputs as the responses of vLLM's own server, so that one dialect reads both.

A `Job` is a request that vLLM is answering. A reader turns the text of an answer into a message:
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
        ParsedCall,
        ReaderParams,
        RequestOutput,
        VLLMLogprob,
    )


END = None
"""The item after the last chunk of a stream."""
# The sampling parameters that vLLM's parsers use.
_PARSER_FIELDS = frozenset({"n", "structured_outputs", "skip_special_tokens"})
_SERVER = OpenAIChat(extras=VLLM_EXTRAS, thinking_kwarg="enable_thinking")
# The log probability that vLLM's server reports for minus infinity, which JSON cannot express.
_MIN_LOGPROB = -9999.0
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

    def put(self, answer: object) -> None:
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

    def adjust(self, params: ReaderParams) -> None:
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
        """The number of reasoning tokens among those read so far; None if they are not counted."""
        ...


class PlainReader:
    """Leaves the text as it is; the dialect reads ``<think>`` tags in it."""

    reasoning_tokens: int | None = None

    def adjust(self, params: ReaderParams) -> None:
        """Do nothing, since this reader needs nothing."""

    def message(self, answer: Completion, prompt: list[int] | None) -> ChatCompletionMessage:  # noqa: ARG002 - see Reader
        """The message whose content is the whole text."""
        return {"content": answer.text}

    def delta(self, answer: Completion, prompt: list[int] | None) -> MessageDelta:  # noqa: ARG002 - see Reader
        """The text is the content."""
        return {"content": answer.text}

    def finish_reason(self, answer: Completion) -> str | None:
        """The reason that vLLM gives."""
        return answer.finish_reason


def parsers_of(llm: Any, reasoning: object, tools: object) -> Parsers:
    """The parsers of an LLM, by vLLM's names for them; at least one name is given.

    Raises ConfigError if vLLM does not know a name, if the parser does not support the model, or
    if this version of vLLM has no such parsers.
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
        msg = "reasoning_parser and tool_call_parser need vLLM 0.32 or later in this process"
        raise ConfigError(msg) from error
    return ParserManager


@dataclass(frozen=True, slots=True)
class Parsers:
    """The parsers of one LLM, from which a reader is made for each request."""

    parser_class: Any
    llm: Any

    def reader(self, request: ChatRequest) -> ParsedReader:
        """A reader for the answers to that request."""
        from vllm.entrypoints.openai.chat_completion import protocol  # noqa: PLC0415 - as above

        used = {k: v for k, v in request.sampling.given().items() if k in _PARSER_FIELDS}
        body = _SERVER.encode(replace(request, sampling=SamplingParams(**used)))
        server_request = protocol.ChatCompletionRequest.model_validate(body)
        variables = chat_arguments(request).get("chat_template_kwargs", {})
        return ParsedReader(server_request, lambda: self._parser(server_request, variables))

    def _parser(self, server_request: Any, variables: object) -> Any:
        """A new parser for one answer; `server_request` is an object of vLLM's server."""
        return self.parser_class(
            self.llm.get_tokenizer(),
            server_request.tools,
            chat_template_kwargs=variables,
            model_config=self.llm.model_config,
        )


class ParsedReader:
    """Reads the answers to one request, each with its own parser, since parsers keep state."""

    def __init__(self, server_request: Any, make_parser: Callable[[], Any]) -> None:
        self._server_request = make_parser().adjust_request(server_request)
        self._parsers = defaultdict[int, Any](make_parser)
        self._token_ids: defaultdict[int, list[int]] = defaultdict(list)
        self._with_calls: set[int] = set()

    def adjust(self, params: ReaderParams) -> None:
        """Set in ``vllm.SamplingParams`` what the parsers need, such as a constraint for calls."""
        params.structured_outputs = self._server_request.extract_structured_outputs()
        params.skip_special_tokens = self._server_request.skip_special_tokens

    def message(self, answer: Completion, prompt: list[int] | None) -> ChatCompletionMessage:
        """The message of a whole answer."""
        self._token_ids[answer.index] += answer.token_ids
        parser = self._parsers[answer.index]
        parser.set_prompt_token_ids(prompt)
        reasoning, content, calls = parser.parse(
            answer.text,
            self._server_request,
            enable_auto_tools=True,
            model_output_token_ids=answer.token_ids,
        )
        if calls:
            self._with_calls.add(answer.index)
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
            request=self._server_request,
            prompt_token_ids=prompt,
            finished=answer.finish_reason is not None,
        )
        if delta is None:
            return {}
        if delta.tool_calls:
            self._with_calls.add(answer.index)
        fields: MessageDelta = delta.model_dump(exclude_none=True)
        return fields

    def finish_reason(self, answer: Completion) -> str | None:
        """Why the answer ended, as vLLM's server would report it.

        As in OpenAI's API, the reason is "stop" if the caller named the tool to call. If the model
        chose to call a tool and the answer is not a stream, the reason is "tool_calls" even if a
        limit cut the rest of the answer.
        """
        choice, reason = self._server_request.tool_choice, answer.finish_reason
        named = not isinstance(choice, (str, type(None)))
        chosen = choice in (None, "auto") and not self._server_request.stream
        if answer.index in self._with_calls and not named and (chosen or reason == "stop"):
            return "tool_calls"
        return reason

    @property
    def reasoning_tokens(self) -> int:
        """The number of reasoning tokens so far."""
        indexed = self._token_ids.items()
        return sum(self._parsers[index].count_reasoning_tokens(ids) for index, ids in indexed)


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
            raise InternalServerError("vLLM ended the answer because of an internal error")
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
    """The chosen tokens, each with the `count` most likely alternatives."""
    if answer.logprobs is None:
        return None
    content: list[TokenLogprob] = []
    for token_id, candidates in zip(answer.token_ids, answer.logprobs, strict=True):
        # vLLM puts the chosen token first, even if it is not among the most likely.
        top = sorted(candidates.values(), key=lambda candidate: candidate.rank)[:count]
        chosen = _logprob(candidates[token_id])
        content.append({**chosen, "top_logprobs": [_logprob(t) for t in top]})
    return {"content": content}


def _logprob(logprob: VLLMLogprob) -> TopLogprob:
    token = logprob.decoded_token or ""
    raw = list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": max(logprob.logprob, _MIN_LOGPROB), "bytes": raw}


def _prompt_logprobs(
    positions: Sequence[Mapping[int, VLLMLogprob] | None] | None,
) -> list[dict[str, PromptLogprob] | None] | None:
    if positions is None:
        return None
    return [
        None if tokens is None else {str(i): _prompt_logprob(p) for i, p in tokens.items()}
        for tokens in positions
    ]


def _prompt_logprob(logprob: VLLMLogprob) -> PromptLogprob:
    return {"logprob": max(logprob.logprob, _MIN_LOGPROB), "decoded_token": logprob.decoded_token}
