"""What the mock says: it obeys the few instructions that checks rely on, and else talks prose."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.mock.text import prose

if TYPE_CHECKING:
    from collections.abc import Sequence

_REPEAT = re.compile(r"\b(?:repeat|echo)\b[^:\n]{0,80}:\s*(.+)", re.IGNORECASE | re.DOTALL)
_SAY_WORD = re.compile(
    r"\b(?:answer|reply|respond|say|write)\b[^.:\n]{0,40}\bword\b[:\s]+[\"'`*]*([\w-]+)",
    re.IGNORECASE,
)
_COUNT = re.compile(r"\bcount (?:from )?(\d{1,4}) to (\d{1,4})", re.IGNORECASE)
_QUESTION = re.compile(r"\bwhat(?:'s| is| was) (?:my|the|your) ([\w ]{1,40}?)\s*\?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, as text."""

    role: str
    text: str


def reply_to(turns: Sequence[Turn], seed: str) -> str:
    """The answer to a conversation: what it asks for if understood, else prose by the seed."""
    return obeyed(turns) or prose(seed)


def obeyed(turns: Sequence[Turn]) -> str | None:
    """The answer that the conversation dictates, or None where it leaves the choice."""
    orders = [t.text for t in turns if t.role in {"system", "developer"}]
    for order in reversed(orders):
        if said := _SAY_WORD.search(order):
            return said[1]
    if not turns:
        return None
    last = turns[-1]
    if last.role == "tool":
        return f"The tool answered: {last.text}"
    question = next((t.text for t in reversed(turns) if t.role == "user"), last.text)
    return _literal(question) or _remembered(question, turns)


def _literal(prompt: str) -> str | None:
    if said := _REPEAT.search(prompt) or _SAY_WORD.search(prompt):
        return said[1].strip()
    if span := _COUNT.search(prompt):
        return ", ".join(str(n) for n in range(int(span[1]), int(span[2]) + 1))
    return None


def _remembered(prompt: str, turns: Sequence[Turn]) -> str | None:
    asked = _QUESTION.search(prompt)
    if asked is None:
        return None
    told = re.compile(rf"\b{re.escape(asked[1])}\s+is\s+[\"'`*]*([^\s.,;!?\"'`*]+)", re.IGNORECASE)
    for turn in reversed(turns):
        if fact := told.search(turn.text):
            return f"The {asked[1]} is {fact[1]}."
    return None
