"""POST /v1/chat/completions: answers in OpenAI's shape, whole and streamed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

from llmengine.mock.bodies import chat_request
from llmengine.mock.json_fields import integer, mapping, text
from llmengine.mock.logprobs import answer_logprobs
from llmengine.mock.model import generate
from llmengine.mock.text import tokenize
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import ApiError, JSONAnswer, StreamAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from llmengine.mock.json_fields import Body
    from llmengine.mock.model import GeneratedAnswer, GeneratedToolCall
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer
    from llmengine.types.wire import (
        ChatCompletion,
        ChatCompletionChoice,
        ChatCompletionChunk,
        ChatCompletionMessage,
        ChoiceLogprobs,
        ChunkChoice,
        CompletionUsage,
        CustomToolCall,
        CustomToolCallDelta,
        FunctionToolCall,
        FunctionToolCallDelta,
        MessageDelta,
    )

T = TypeVar("T")

FINGERPRINT = "fp_mock"


@dataclass(frozen=True, slots=True)
class TokenDetails:
    """What a choice contains about its tokens besides their text.

    ``top`` is the number of alternatives per token; None means no logprobs. ``ids`` gives the ids
    of tokens; it is None if the request did not ask for them.
    """

    top: int | None
    ids: Callable[[Iterable[str]], list[int]] | None

    @classmethod
    def of(cls, body: Body, service: Service) -> TokenDetails:
        """What the request asks for; token ids are an option of vLLM."""
        wants_ids = body.get("return_token_ids") is True
        return cls(top_logprobs(body), service.token_ids if wants_ids else None)

    def logprobs(
        self, answer: GeneratedAnswer, first: int = 0, last: int | None = None
    ) -> ChoiceLogprobs | None:
        """The ``logprobs`` of a choice, for the tokens from the index `first` to before `last`."""
        if self.top is None:
            return None
        return {"content": answer_logprobs(answer, self.top, first, last), "refusal": None}


def chat_completion(body: Body, service: Service) -> MockAnswer:
    """Answer a chat completion."""
    request = service.with_token_limit(chat_request(body))
    answers = generate(request, service.next_reply())
    cached = service.cached_tokens(request.pieces)
    usage = TokenCounts.of(request.prompt_tokens, answers, cached).as_usage
    details = TokenDetails.of(body, service)
    prompt_ids = details.ids(request.pieces) if details.ids else None
    tier = text(body.get("service_tier"))
    completion: ChatCompletion = {
        "id": new_id("chatcmpl-"),
        "created": int(time.time()),
        "model": service.model_name(body),
        "system_fingerprint": FINGERPRINT,
        "object": "chat.completion",
        "choices": [choice(index, a, details) for index, a in enumerate(answers)],
        "usage": usage,
    }
    if tier:
        completion["service_tier"] = "default" if tier == "auto" else tier
    if body.get("store") is True:
        stored = {**completion, "metadata": mapping(body.get("metadata"))}
        service.completions[completion["id"]] = stored
    if body.get("stream") is True:
        empty: ChatCompletionChunk = {
            "id": completion["id"],
            "created": completion["created"],
            "model": completion["model"],
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion.chunk",
            "choices": [],
        }
        if tier:
            empty["service_tier"] = completion["service_tier"]
        streams = [_choice_deltas(i, a, details) for i, a in enumerate(answers)]
        chunks = list(_chunks(empty, streams, usage if wants_usage(body) else None))
        if prompt_ids is not None:
            chunks[0]["prompt_token_ids"] = prompt_ids
        return stream_answer(chunks, body)
    if prompt_ids is not None:
        completion["prompt_token_ids"] = prompt_ids
    return JSONAnswer(completion)


def retrieve_completion(body: Body, service: Service, completion_id: str) -> MockAnswer:
    """Answer with a stored chat completion."""
    return JSONAnswer(_stored(completion_id, service))


def delete_completion(body: Body, service: Service, completion_id: str) -> MockAnswer:
    """Delete a stored chat completion."""
    _stored(completion_id, service)
    service.completions.pop(completion_id, None)
    return JSONAnswer({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})


def _stored(completion_id: str, service: Service) -> Body:
    if completion_id in service.completions:
        return service.completions[completion_id]
    message = f"Chat completion with id '{completion_id}' not found."
    raise ApiError(message, status=404, param="id")


def top_logprobs(body: Body) -> int | None:
    """The number of alternatives per token; None for no logprobs."""
    if body.get("logprobs") is not True:
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


def choice(index: int, answer: GeneratedAnswer, details: TokenDetails) -> ChatCompletionChoice:
    """One choice of an answer that is not streamed."""
    message: ChatCompletionMessage = {
        "role": "assistant",
        "content": answer.text if answer.has_content else None,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.reasoning:
        message["reasoning"] = "".join(answer.reasoning)
    if answer.calls:
        message["tool_calls"] = [_tool_call(c) for c in answer.calls]
    choice: ChatCompletionChoice = {
        "index": index,
        "message": message,
        "logprobs": details.logprobs(answer),
        "finish_reason": answer.finish,
    }
    if details.ids:
        choice["token_ids"] = details.ids(answer.pieces)
    return choice


def _tool_call(call: GeneratedToolCall) -> FunctionToolCall | CustomToolCall:
    text = "".join(call.arguments)
    if call.custom:
        return {
            "id": new_id("call_"),
            "type": "custom",
            "custom": {"name": call.name, "input": text},
        }
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": text},
    }


# ---- streams


def wants_usage(body: Body) -> bool:
    """Whether the request asks for the usage at the end of the stream."""
    return mapping(body.get("stream_options")).get("include_usage") is True


def stream_answer(chunks: Iterable[Mapping[str, object]], body: Body) -> StreamAnswer:
    """A stream of these chunks; with ``obfuscation`` in each if the request asks for it."""
    if mapping(body.get("stream_options")).get("include_obfuscation") is not True:
        return StreamAnswer(list(chunks))
    return StreamAnswer([{**chunk, "obfuscation": "x" * 8} for chunk in chunks])


def in_turns(streams: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first part of every stream, then the second parts, until all streams have ended."""
    for row in zip_longest(*streams):
        yield from (part for part in row if part is not None)


def _chunks(
    empty: ChatCompletionChunk,
    streams: Iterable[Iterable[ChunkChoice]],
    usage: CompletionUsage | None,
) -> Iterator[ChatCompletionChunk]:
    """The chunks of all choices in turns, then one with the usage, if it is not None."""
    for part in in_turns(streams):
        chunk = empty | {"choices": [part]}
        if usage is not None:
            chunk["usage"] = None
        yield chunk
    if usage is not None:
        yield empty | {"usage": usage}


def _choice_deltas(
    index: int, answer: GeneratedAnswer, details: TokenDetails
) -> Iterator[ChunkChoice]:
    for delta, logprobs, tokens in _deltas(answer, details):
        part: ChunkChoice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": None,
        }
        if tokens and details.ids:
            part["token_ids"] = details.ids(tokens)
        yield part
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": answer.finish}


def _deltas(
    answer: GeneratedAnswer, details: TokenDetails
) -> Iterator[tuple[MessageDelta, ChoiceLogprobs | None, Sequence[str]]]:
    """Yield each delta with its log-probabilities and its tokens."""
    content = "" if answer.has_content else None
    yield {"role": "assistant", "content": content, "refusal": None}, None, ()
    for token in answer.reasoning:
        yield {"reasoning": token}, None, (token,)
    for index, token in enumerate(answer.tokens):
        yield {"content": token}, details.logprobs(answer, index, index + 1), (token,)
    if answer.refusal is not None:
        yield {"refusal": answer.refusal}, None, ()
    for index, call in enumerate(answer.calls):
        for delta, tokens in _tool_call_deltas(index, call):
            yield {"tool_calls": [delta]}, None, tokens


def _tool_call_deltas(
    index: int, call: GeneratedToolCall
) -> Iterator[tuple[FunctionToolCallDelta | CustomToolCallDelta, Sequence[str]]]:
    if call.custom:
        first: CustomToolCallDelta = {
            "index": index,
            "id": new_id("call_"),
            "type": "custom",
            "custom": {"name": call.name, "input": ""},
        }
        yield first, tokenize(call.name)
        for token in call.arguments:
            yield {"index": index, "custom": {"input": token}}, (token,)
        return
    opening: FunctionToolCallDelta = {
        "index": index,
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": call.name, "arguments": ""},
    }
    yield opening, tokenize(call.name)
    for token in call.arguments:
        yield {"index": index, "function": {"arguments": token}}, (token,)
