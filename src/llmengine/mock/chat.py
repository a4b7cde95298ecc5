"""POST /v1/chat/completions: answers in OpenAI's shape, whole and streamed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from llmengine.mock.chat_body import chat_ask
from llmengine.mock.generation import answer
from llmengine.mock.logprobs import chat_entries
from llmengine.mock.reading import integer, mapping
from llmengine.mock.replies import Stream, Whole, new_id
from llmengine.mock.usage import usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.generation import Said, SaidCall
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

FINGERPRINT = "fp_mock"


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer shows of its tokens beside their text.

    ``top`` is how many alternatives each has, None for no logprobs; ``ids`` numbers them, None
    where nobody asked.
    """

    top: int | None
    ids: Callable[[Iterable[str]], list[int]] | None


def chat_completion(body: JSON, service: Service) -> Answer:
    """Answer a chat completion."""
    ask = service.fitted(chat_ask(body))
    said = answer(ask, service.next_reply())
    head = {"id": new_id("chatcmpl-"), "created": int(time.time()), "model": service.echo(body)}
    usage = usage_of(ask.prompt_tokens, said)
    show = Shown(top_logprobs(body), service.token_ids if wants_ids(body) else None)
    prompt = {"prompt_token_ids": show.ids(ask.pieces)} if show.ids else {}
    if body.get("stream") is True:
        first, *more = _chunks(head, said, show, body, usage)
        return Stream([first | prompt, *more])
    choices = [choice_of(index, one, show) for index, one in enumerate(said)]
    tail = {"usage": usage, "service_tier": "default", "system_fingerprint": FINGERPRINT}
    return Whole({**head, "object": "chat.completion", "choices": choices, **tail, **prompt})


def top_logprobs(body: JSON) -> int | None:
    """How many alternatives a token's entry has; None for no logprobs at all."""
    if body.get("logprobs") is not True:
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


def wants_ids(body: JSON) -> bool:
    """Whether the answer is to hold token ids, as vLLM gives them when asked."""
    return body.get("return_token_ids") is True


def choice_of(index: int, said: Said, show: Shown) -> JSON:
    """One whole answer."""
    silent = said.refusal is not None or (said.calls and not said.tokens)
    message: JSON = {
        "role": "assistant",
        "content": None if silent else said.text,
        "refusal": said.refusal,
        "annotations": [],
    }
    if said.reasoning:
        message["reasoning"] = "".join(said.reasoning)
    if said.calls:
        message["tool_calls"] = [_call(c) for c in said.calls]
    return {
        "index": index,
        "message": message,
        "logprobs": _logprobs(said.tokens, show.top),
        "finish_reason": said.finish,
        **_ids(said.pieces, show),
    }


def _ids(tokens: Sequence[str], show: Shown) -> JSON:
    return {"token_ids": show.ids(tokens)} if show.ids else {}


def _call(call: SaidCall) -> JSON:
    function = {"name": call.name, "arguments": "".join(call.arguments)}
    return {"id": new_id("call_"), "type": "function", "function": function}


def _logprobs(tokens: tuple[str, ...], top: int | None, first: int = 0) -> JSON | None:
    if top is None:
        return None
    return {"content": chat_entries(tokens, top, first), "refusal": None}


def _chunks(head: JSON, said: list[Said], show: Shown, body: JSON, usage: JSON) -> Iterator[JSON]:
    shared = {
        **head,
        "object": "chat.completion.chunk",
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    with_usage = mapping(body.get("stream_options")).get("include_usage") is True
    null_usage = {"usage": None} if with_usage else {}
    for choice in _interleaved([list(_choice_deltas(i, s, show)) for i, s in enumerate(said)]):
        yield {**shared, "choices": [choice], **null_usage}
    if with_usage:
        yield {**shared, "choices": [], "usage": usage}


def _interleaved(streams: list[list[JSON]]) -> Iterator[JSON]:
    for row in zip_longest(*streams):
        yield from (choice for choice in row if choice is not None)


def _choice_deltas(index: int, said: Said, show: Shown) -> Iterator[JSON]:
    for delta, logprobs, tokens in _deltas(said, show.top):
        ids = _ids(tokens, show) if tokens else {}
        yield {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None, **ids}
    yield {"index": index, "delta": {}, "logprobs": None, "finish_reason": said.finish}


def _deltas(said: Said, top: int | None) -> Iterator[tuple[JSON, JSON | None, Sequence[str]]]:
    """Each delta with its log-probabilities and the tokens that it is made of."""
    silent = said.refusal is not None or (said.calls and not said.tokens)
    first = {"role": "assistant", "content": None if silent else "", "refusal": None}
    yield first, None, ()
    for token in said.reasoning:
        yield {"reasoning": token}, None, (token,)
    for place, token in enumerate(said.tokens):
        yield {"content": token}, _logprobs((token,), top, place), (token,)
    if said.refusal is not None:
        yield {"refusal": said.refusal}, None, ()
    for place, call in enumerate(said.calls):
        yield from ((d, None, tokens) for d, tokens in _call_deltas(place, call))


def _call_deltas(place: int, call: SaidCall) -> Iterator[tuple[JSON, Sequence[str]]]:
    opening = replace(call, arguments=())
    yield {"tool_calls": [{"index": place, **_call(opening)}]}, opening.pieces
    for token in call.arguments:
        yield {"tool_calls": [{"index": place, "function": {"arguments": token}}]}, (token,)
