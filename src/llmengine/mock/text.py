"""The mock's tokenizer, vocabulary and prose."""

from __future__ import annotations

import random
import re
from zlib import crc32

_TOKEN = re.compile(r" ?\w{1,8}| ?[^\w\s]|\s")
_TOKEN_IDS = 50_000
SENTENCES = 4
_WORDS_PER_SENTENCE = 7

_WORDS = """
amber anchor apple arrow autumn basket beacon bread bridge candle castle cedar circle cloud
copper corner cotton desert echo ember feather field flame forest garden glass golden
granite harbor hollow island ivory kettle ladder lantern lemon marble meadow mirror morning
mountain needle ocean olive orange paper pebble pepper planet pocket quiet rabbit river
saddle shadow silver simple spring stone summer thread timber valley velvet violet walnut
water willow window winter yellow
"""
VOCABULARY = tuple(_WORDS.split())


def tokenize(text: str) -> list[str]:
    """Split a text into pieces of at most a space and eight letters; joined they are the text."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """The number of tokens in a text."""
    return len(tokenize(text))


def token_id(token: str) -> int:
    """A number for a token; it is the same in every process."""
    return crc32(token.encode()) % _TOKEN_IDS


def word(number: int) -> str:
    """The word for a token id; there are more ids than words, so several ids share one."""
    return VOCABULARY[number % len(VOCABULARY)]


def prose(seed: str, sentences: int = SENTENCES) -> str:
    """Sentences of seven words, the same for the same seed; fewer are the beginning of more."""
    chance = random.Random(seed)  # nosec B311  # noqa: S311 - repeatable on purpose
    drawn = (chance.sample(VOCABULARY, _WORDS_PER_SENTENCE) for _ in range(sentences))
    return " ".join(" ".join(words).capitalize() + "." for words in drawn)
