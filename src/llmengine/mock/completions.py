"""POST /v1/completions: text completions in OpenAI's legacy shape, whole and streamed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from llmengine.mock.bodies import Completion, completion
from llmengine.mock.chat import FINGERPRINT, alternatives, chosen, usage_of
from llmengine.mock.json_fields import mapping
from llmengine.mock.model import Said, answer
from llmengine.mock.text import tokenize
from llmengine.mock.wire import Stream, Whole, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


@dataclass(frozen=True, slots=True)
class _Choice:
    index: int
    prompt: str
    said: Said


def text_completion(body: JSON, service: Service) -> MockAnswer:
    """Answer a text completion: ``n`` choices for each prompt, prompts in order."""
    asked = completion(body)
    scripted = service.next_reply()
    choices: list[_Choice] = []
    generated: list[Said] = []
    for ask in asked.asks:
        said = answer(service.fitted(ask), scripted) if asked.generates else [Said(finish="length")]
        first = len(choices)
        prompt = ask.turns[0].text
        choices += [_Choice(first + i, prompt, s) for i, s in enumerate(said[: asked.n])]
        generated += said
    usage = usage_of(sum(a.prompt_tokens for a in asked.asks), generated)
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.echo(body),
        "system_fingerprint": FINGERPRINT,
    }
    if body.get("stream") is True:
        return Stream(list(_chunks(head, choices, asked, body, usage)))
    return Whole({**head, "choices": [_whole(c, asked) for c in choices], "usage": usage})


def _whole(choice: _Choice, asked: Completion) -> JSON:
    echoed = tokenize(choice.prompt) if asked.echo else []
    tokens = [*echoed, *choice.said.tokens]
    return {
        "index": choice.index,
        "text": "".join(tokens),
        "logprobs": _logprobs(tokens, asked.logprobs, echo=bool(echoed)),
        "finish_reason": choice.said.finish,
    }


def _logprobs(
    tokens: Sequence[str], top: int | None, *, place: int = 0, offset: int = 0, echo: bool = False
) -> JSON | None:
    """Log-probabilities in the legacy shape; an echoed prompt's first token has none."""
    if top is None:
        return None
    places = range(place, place + len(tokens))
    chances: list[float | None] = [chosen(t, p) for t, p in zip(tokens, places, strict=True)]
    tops: list[JSON | None] = [
        dict(alternatives(t, p, max(top, 1))) for t, p in zip(tokens, places, strict=True)
    ]
    offsets = [offset + sum(map(len, tokens[:i])) for i in range(len(tokens))]
    if echo:
        chances[0], tops[0] = None, None
    return {
        "tokens": list(tokens),
        "token_logprobs": chances,
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def _chunks(
    head: JSON, choices: list[_Choice], asked: Completion, body: JSON, usage: JSON
) -> Iterator[JSON]:
    with_usage = mapping(body.get("stream_options")).get("include_usage") is True
    null_usage = {"usage": None} if with_usage else {}
    for row in zip_longest(*(_parts(c, asked) for c in choices)):
        for part in row:
            if part is not None:
                yield {**head, "choices": [part], **null_usage}
    if with_usage:
        yield {**head, "choices": [], "usage": usage}


def _parts(choice: _Choice, asked: Completion) -> Iterator[JSON]:
    place = offset = 0
    echoed = tokenize(choice.prompt) if asked.echo else []
    groups = ([echoed] if echoed else []) + [[t] for t in choice.said.tokens]
    for group in groups:
        echo = bool(echoed) and place == 0
        logprobs = _logprobs(group, asked.logprobs, place=place, offset=offset, echo=echo)
        text = "".join(group)
        place, offset = place + len(group), offset + len(text)
        yield {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": None}
    finish = choice.said.finish
    yield {"index": choice.index, "text": "", "logprobs": None, "finish_reason": finish}
