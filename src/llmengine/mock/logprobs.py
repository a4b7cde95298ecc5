"""Log-probabilities that are made up, but add up: the chosen token first, the sum below one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zlib import crc32

from llmengine.mock.text import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON

_LOWEST_CHANCE = 0.55
_CHANCES = 400


def chat_entries(tokens: Sequence[str], top: int, first: int = 0) -> list[JSON]:
    """One entry a token in the shape of chat completions, with `top` alternatives.

    `first` is the place of the first token in the answer.
    """
    entries = []
    for place, token in enumerate(tokens, first):
        ranked = alternatives(token, place, top)
        top_logprobs = [_entry(t, p) for t, p in ranked]
        entries.append(_entry(token, chosen(token, place)) | {"top_logprobs": top_logprobs})
    return entries


def chosen(token: str, place: int) -> float:
    """The natural-log probability of the token at its place."""
    return math.log(_chance(token, place))


def alternatives(token: str, place: int, top: int) -> list[tuple[str, float]]:
    """The `top` most likely tokens at a place, most likely first, the chosen one among them."""
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
