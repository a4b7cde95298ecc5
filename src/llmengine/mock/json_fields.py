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
