"""POST /v1/chat/completions: answers in OpenAI's shape, whole and streamed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING
from zlib import crc32

from llmengine.mock.bodies import chat_ask
from llmengine.mock.json_fields import integer, mapping
from llmengine.mock.model import answer
from llmengine.mock.text import VOCABULARY
from llmengine.mock.wire import Stream, Whole, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.model import Said, SaidCall
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


def usage_of(prompt_tokens: int, said: Iterable[Said]) -> JSON:
    """The usage: the prompt's tokens, counted once, and those of all answers."""
    answers = list(said)
    completion = sum(s.completion_tokens for s in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(len(s.reasoning) for s in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


_LOWEST_CHANCE = 0.55
_CHANCES = 400


def chat_entries(tokens: Sequence[str], top: int, first: int = 0) -> list[JSON]:
    """One entry per token in the shape of chat completions, with `top` alternatives.

    `first` is the place of the first token in the answer.
    """
    entries = []
    for place, token in enumerate(tokens, first):
        ranked = alternatives(token, place, top)
        top_logprobs = [_entry(t, p) for t, p in ranked]
        entries.append(_entry(token, chosen(token, place)) | {"top_logprobs": top_logprobs})
    return entries


def chosen(token: str, place: int) -> float:
    """The made-up log-probability (natural log) of the token at its place."""
    return math.log(_chance(token, place))


def alternatives(token: str, place: int, top: int) -> list[tuple[str, float]]:
    """The `top` most likely tokens at a place, the chosen one first.

    Their probabilities are made up, but their sum is below one.
    """
    top = min(top, len(VOCABULARY))
    ranked = [(token, chosen(token, place))] if top else []
    left = 1 - _chance(token, place)
    first = crc32(f"{place} {token}".encode())
    while len(ranked) < top:
        left /= 2
        other = " " + VOCABULARY[(first + len(ranked)) % len(VOCABULARY)]
        ranked.append((other if other != token else token.upper(), math.log(left)))
    return ranked


def _chance(token: str, place: int) -> float:
    return _LOWEST_CHANCE + crc32(f"{token} {place}".encode()) % _CHANCES / 1000


def _entry(token: str, logprob: float) -> JSON:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


FINGERPRINT = "fp_mock"


@dataclass(frozen=True, slots=True)
class Shown:
    """What an answer shows of its tokens besides their text.

    ``top`` is the number of alternatives per token, None for no logprobs. ``ids`` gives the tokens'
    ids, None if the request did not ask for them.
    """

    top: int | None
    ids: Callable[[Iterable[str]], list[int]] | None


def chat_completion(body: JSON, service: Service) -> MockAnswer:
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
    """The number of alternatives in a token's entry; None for no logprobs."""
    if body.get("logprobs") is not True:
        return None
    return max(0, integer(body.get("top_logprobs")) or 0)


def wants_ids(body: JSON) -> bool:
    """Whether the answer must hold token ids; this is an option of vLLM."""
    return body.get("return_token_ids") is True


def choice_of(index: int, said: Said, show: Shown) -> JSON:
    """One choice of a whole answer."""
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
    """Yield each delta with its log-probabilities and its tokens."""
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
