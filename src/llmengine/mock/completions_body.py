"""A text completion's body as questions, one a prompt; it bears any JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.mock.answers import Turn
from llmengine.mock.ask import Ask
from llmengine.mock.chat_body import choices
from llmengine.mock.reading import integer, items, mapping, number, strings, text
from llmengine.mock.text import word

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

_DEFAULT_TOKENS = 16  # OpenAI's own default of max_tokens on this route


@dataclass(frozen=True, slots=True)
class Completion:
    """What is asked: a question a prompt, and how to show the answers.

    ``logprobs`` is the number of alternatives or None. Each question asks for ``best_of`` answers
    and the first ``n`` are shown. ``generates`` is False for a limit of no tokens.
    """

    asks: tuple[Ask, ...]
    n: int
    echo: bool
    logprobs: int | None
    generates: bool


def completion(body: JSON) -> Completion:
    """The questions in the body of a text completion."""
    n = choices(body.get("n"))
    limit = integer(body.get("max_tokens"))
    logprobs = integer(body.get("logprobs"))
    return Completion(
        asks=tuple(_ask(p, body, limit, n) for p in prompts(body.get("prompt"))),
        n=n,
        echo=body.get("echo") is True,
        logprobs=None if logprobs is None else max(0, logprobs),
        generates=limit != 0,
    )


def _ask(prompt: str, body: JSON, limit: int | None, n: int) -> Ask:
    return Ask(
        turns=(Turn("user", prompt),),
        temperature=number(body.get("temperature"), 1.0),
        seed=integer(body.get("seed")),
        max_tokens=_DEFAULT_TOKENS if limit is None or limit < 0 else limit,
        stop=strings(body.get("stop")),
        n=max(n, choices(body.get("best_of"))),
        logit_bias=mapping(body.get("logit_bias")),
        extra=text(body.get("suffix")),
        template=False,
    )


def prompts(value: Any) -> list[str]:
    """Prompts, or inputs, in any of four forms: a text, texts, token ids, lists of token ids."""
    if isinstance(value, str):
        return [value]
    parts = items(value)
    if parts and all(integer(p) is not None for p in parts):
        return [_detokenized(parts)]
    return [p if isinstance(p, str) else _detokenized(items(p)) for p in parts]


def _detokenized(ids: list[Any]) -> str:
    return " ".join(word(integer(i) or 0) for i in ids)
