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

    What stands before a closing ``</think>`` is reasoning. A text that is JSON as a whole is
    taken whole. Else a fenced block goes before what stands around it, and of the objects and
    arrays found there (numbers and strings may be prose) the first one counts. A text without
    any comes back as it is.
    """
    text = text.rpartition(_THOUGHT_ENDS)[2].strip()
    if _end_of_value(text, 0) == len(text):
        return text
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
