"""Finding the JSON in an answer that was only asked, not made, to be nothing else."""

from __future__ import annotations

import re
from json import JSONDecoder

_THOUGHT_ENDS = "</think>"
_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MOST_TRIES = 100  # prose may hold any number of brackets
_decoder = JSONDecoder()


def first_json(text: str) -> str:
    """The first whole JSON value in an answer, as it is written there.

    A text that is JSON as a whole is taken whole. Else what stands before a closing ``</think>``
    is reasoning, and a fenced block goes before what stands around it, and of the objects and
    arrays found there (numbers and strings may be prose) the first one counts. A text without
    any comes back as it is.
    """
    whole = text.strip()  # may speak of the tag inside of a string
    text = text.rpartition(_THOUGHT_ENDS)[2].strip()
    for candidate in (whole, text):
        if _end_of_value(candidate, 0) == len(candidate):
            return candidate
    for part in (*_FENCE.findall(text), text):
        found = _first_in(part)
        if found is not None:
            return found
    return text


def _first_in(text: str) -> str | None:
    for tries, opening in enumerate(_OPENING.finditer(text)):
        if tries == _MOST_TRIES:
            break
        end = _end_of_value(text, opening.start())
        if end is not None:
            return text[opening.start() : end]
    return None


def _end_of_value(text: str, start: int) -> int | None:
    try:
        return _decoder.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return None
