"""Log-probabilities of tokens: scripted, or made up and the same in every process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zlib import crc32

from llmengine.mock.text import VOCABULARY

if TYPE_CHECKING:
    from llmengine.mock.model import GeneratedAnswer
    from llmengine.types.wire import TokenLogprob, TopLogprob

_LOWEST_PROBABILITY = 0.55
_PROBABILITIES = 400


def answer_logprobs(
    answer: GeneratedAnswer, top: int, first: int = 0, last: int | None = None
) -> list[TokenLogprob]:
    """One entry per token of the answer in the shape of chat completions, with `top` alternatives.

    `first` and `last` are the indexes of the tokens, in the way of a slice.
    """
    entries: list[TokenLogprob] = []
    for index, token in enumerate(answer.tokens[first:last], first):
        chance, others = token_logprob(answer, token, index, top)
        entries.append({**_entry(token, chance), "top_logprobs": [_entry(*o) for o in others]})
    return entries


def token_logprob(
    answer: GeneratedAnswer, token: str, index: int, top: int, echoed: int = 0
) -> tuple[float, list[tuple[str, float]]]:
    """The log-probability of a token, and `top` alternatives with theirs.

    `index` counts from the first of the `echoed` tokens of the prompt, which precede the answer.
    """
    if not echoed <= index < echoed + len(answer.logprobs):
        return _logprob(token, index), _alternatives(token, index, top)
    scripted = answer.logprobs[index - echoed]
    others = scripted.alternatives or ((token, scripted.logprob),)
    return scripted.logprob, list(others[:top])


def _entry(token: str, logprob: float) -> TopLogprob:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _logprob(token: str, index: int) -> float:
    """The log-probability (natural logarithm) of the token at its index in the answer."""
    return math.log(_probability(token, index))


def _alternatives(token: str, index: int, top: int) -> list[tuple[str, float]]:
    """The `top` most likely tokens at an index with their log-probabilities, the token first.

    The sum of their probabilities is below one.
    """
    top = min(top, len(VOCABULARY))
    ranked = [(token, _logprob(token, index))] if top else []
    left = 1 - _probability(token, index)
    first = crc32(f"{index} {token}".encode())
    while len(ranked) < top:
        left /= 2
        other = " " + VOCABULARY[(first + len(ranked)) % len(VOCABULARY)]
        ranked.append((other if other != token else token.upper(), math.log(left)))
    return ranked


def _probability(token: str, index: int) -> float:
    return _LOWEST_PROBABILITY + crc32(f"{token} {index}".encode()) % _PROBABILITIES / 1000
