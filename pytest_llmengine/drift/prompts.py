"""Candidates for the prompts of a probe.

Short prompts without a meaning leave the first token open, so that a small change of the model
changes it. The long ones lead to lists and repetitions, where penalties act.
"""

from __future__ import annotations

import random
from itertools import permutations

from pytest_llmengine.drift.answers import DriftPrompt, RoundKind

CANDIDATES = 200
"""How many candidates for short prompts there are."""

_WORDS = (
    "amber bridge candle dust echo forest glass harbour island jacket kettle lantern market needle "
    "orchard paper quiet river shadow table umbrella valley window yellow"
)
_LONG = (
    "Write a short story about a river and a bridge.",
    "Name ten animals, each with one word about it.",
    "Explain how bread is made, step by step.",
    "Write a poem of four lines about rain, rain, rain.",
    "List the days of the week and what people do on each day.",
    "Describe a house room by room.",
)
_SAMPLED = (
    "Tell me about a city that does not exist.",
    "Make up a name for a boat and say why it has it.",
)
LONG_TOKENS = 32
SAMPLED_TOKENS = 8


def short_candidates() -> tuple[DriftPrompt, ...]:
    """Pairs of words, the same ones every time."""
    pairs = [" ".join(pair) for pair in permutations(_WORDS.split(), 2)]
    chosen = random.Random(0).sample(pairs, CANDIDATES)  # noqa: S311  # nosec B311 - repeatable
    return tuple(DriftPrompt(text=text) for text in chosen)


def long_candidates() -> tuple[DriftPrompt, ...]:
    """Prompts for answers of some tokens."""
    return tuple(
        DriftPrompt(text=text, kind=RoundKind.LONG, max_tokens=LONG_TOKENS) for text in _LONG
    )


def sampled_prompts() -> tuple[DriftPrompt, ...]:
    """Prompts whose answers are sampled at temperature 1."""
    return tuple(
        DriftPrompt(text=text, kind=RoundKind.SAMPLED, max_tokens=SAMPLED_TOKENS, temperature=1.0)
        for text in _SAMPLED
    )
