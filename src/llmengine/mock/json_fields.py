"""Lenient readers for the values of a JSON body that a client sent.

A body may hold anything if a validation rule is switched off, so every reader accepts any value.
"""

from __future__ import annotations

from collections.abc import Mapping

# The JSON object that a client sent, or an object in it.
Body = Mapping[str, object]


def text(value: object) -> str:
    """The string, or "" for anything else."""
    return value if isinstance(value, str) else ""


def number(value: object, default: float) -> float:
    """The number, or the default for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return default
    try:
        return float(value)
    except OverflowError:
        return default


def integer(value: object) -> int | None:
    """The whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def items(value: object) -> list[object]:
    """The list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def mapping(value: object) -> Body:
    """The object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def is_number(value: object) -> bool:
    """Whether the value is a JSON number; a boolean is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strings(value: object) -> tuple[str, ...]:
    """The string, or the strings in a list; other values are left out."""
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in items(value) if isinstance(v, str))


def last_text(body: Body) -> str:
    """The text of the last message of a request, in the body of any API that generates text."""
    for name in ("messages", "input", "prompt"):
        if (value := body.get(name)) is not None:
            parts = items(value)
            return _flat_text(parts[-1] if parts and isinstance(parts[-1], dict) else value)
    return ""


def system_text(body: Body) -> str:
    """The system prompt of a request, in the body of any API that generates text."""
    turns = [mapping(turn) for name in ("messages", "input") for turn in items(body.get(name))]
    found = [turn.get("content") for turn in turns if turn.get("role") in {"system", "developer"}]
    given = (body.get("instructions"), body.get("system"), *found)
    return "\n".join(said for value in given if (said := _flat_text(value)))


def _flat_text(value: object) -> str:
    """The text of a content: a string, parts with texts, or the result of a tool."""
    if isinstance(value, list):
        separator = "\n" if all(isinstance(part, str) for part in value) else ""
        return separator.join(map(_flat_text, value))
    if not isinstance(value, dict):
        return text(value)
    fields = (value.get(name) for name in ("text", "content", "output", "refusal"))
    return next((found for field in fields if (found := _flat_text(field))), "")
