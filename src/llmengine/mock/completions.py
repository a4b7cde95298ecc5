"""POST /v1/completions: text completions in OpenAI's legacy shape, whole and streamed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.mock.bodies import CompletionRequest, completion_request
from llmengine.mock.chat import (
    FINGERPRINT,
    in_turns,
    stream_answer,
    wants_usage,
)
from llmengine.mock.logprobs import token_logprob
from llmengine.mock.model import GeneratedAnswer, generate
from llmengine.mock.text import tokenize
from llmengine.mock.usage import TokenCounts
from llmengine.mock.wire import JSONAnswer, new_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.json_fields import Body
    from llmengine.mock.service import Service
    from llmengine.mock.wire import MockAnswer


@dataclass(frozen=True, slots=True)
class _TextChoice:
    index: int
    prompt: str
    answer: GeneratedAnswer


def text_completion(body: Body, service: Service) -> MockAnswer:
    """Answer a text completion: ``n`` choices for each prompt, prompts in order."""
    completion = completion_request(body)
    choices: list[_TextChoice] = []
    generated: list[GeneratedAnswer] = []
    for request in completion.requests:
        answers = [GeneratedAnswer(finish="length")]
        if completion.generates:
            scripted = service.next_reply({**body, "prompt": request.turns[0].text})
            answers = generate(service.with_token_limit(request), scripted)
        first = len(choices)
        prompt = request.turns[0].text
        sent = answers[: completion.n]
        choices += [_TextChoice(first + i, prompt, answer) for i, answer in enumerate(sent)]
        generated += answers
    prompt_tokens = sum(request.prompt_tokens for request in completion.requests)
    usage = TokenCounts.of(prompt_tokens, generated).as_usage
    head = {
        "id": new_id("cmpl-"),
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.model_name(body),
        "system_fingerprint": FINGERPRINT,
    }
    if body.get("stream") is True:
        null_usage: JSON = {"usage": None} if wants_usage(body) else {}
        parts = in_turns([_parts(c, completion) for c in choices])
        chunks = [{**head, "choices": [part], **null_usage} for part in parts]
        last = [{**head, "choices": [], "usage": usage}] if wants_usage(body) else []
        return stream_answer([*chunks, *last], body)
    return JSONAnswer({**head, "choices": [_whole(c, completion) for c in choices], "usage": usage})


def _whole(choice: _TextChoice, completion: CompletionRequest) -> JSON:
    echoed = tokenize(choice.prompt) if completion.echo else []
    tokens = [*echoed, *choice.answer.tokens]
    return {
        "index": choice.index,
        "text": "".join(tokens),
        "logprobs": _logprobs(choice.answer, tokens, completion.logprobs, echoed=len(echoed)),
        "finish_reason": choice.answer.finish,
    }


def _parts(choice: _TextChoice, completion: CompletionRequest) -> Iterator[JSON]:
    """The parts of a streamed choice: the echoed prompt, each token, and the finish reason."""
    index = offset = 0
    echoed = tokenize(choice.prompt) if completion.echo else []
    groups = ([echoed] if echoed else []) + [[t] for t in choice.answer.tokens]
    for group in groups:
        logprobs = _logprobs(
            choice.answer,
            group,
            completion.logprobs,
            first=index,
            offset=offset,
            echoed=len(echoed),
        )
        text = "".join(group)
        index, offset = index + len(group), offset + len(text)
        yield {"index": choice.index, "text": text, "logprobs": logprobs, "finish_reason": None}
    finish = choice.answer.finish
    yield {"index": choice.index, "text": "", "logprobs": None, "finish_reason": finish}


def _logprobs(  # noqa: PLR0913 - the tokens and where they are
    answer: GeneratedAnswer,
    tokens: Sequence[str],
    top: int | None,
    *,
    first: int = 0,
    offset: int = 0,
    echoed: int = 0,
) -> JSON | None:
    """Log-probabilities in the legacy shape; an echoed prompt's first token has none.

    `first` is the index of the first token, counted from the first of the `echoed` tokens of the
    prompt, and `offset` its offset in the text.
    """
    if top is None:
        return None
    known = [token_logprob(answer, t, i, max(top, 1), echoed) for i, t in enumerate(tokens, first)]
    token_logprobs: list[float | None] = [chance for chance, _ in known]
    top_logprobs: list[JSON | None] = [dict(others) for _, others in known]
    if echoed and first == 0:
        token_logprobs[0], top_logprobs[0] = None, None
    return {
        "tokens": list(tokens),
        "token_logprobs": token_logprobs,
        "top_logprobs": top_logprobs,
        "text_offset": [offset + sum(map(len, tokens[:i])) for i in range(len(tokens))],
    }
