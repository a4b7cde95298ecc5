"""Lenient readers for values of a JSON body.

If a validation rule is switched off, a body may hold anything, so every reader accepts any value.
"""

from __future__ import annotations

from typing import Any


def text(value: Any) -> str:
    """A string, or "" for anything else."""
    return value if isinstance(value, str) else ""


def number(value: Any, default: float) -> float:
    """A number, or the default for anything else."""
    if not is_number(value):
        return default
    try:
        return float(value)
    except OverflowError:
        return default


def integer(value: Any) -> int | None:
    """A whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def items(value: Any) -> list[Any]:
    """A list, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """An object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def is_number(value: Any) -> bool:
    """Whether the value is a JSON number; a bool is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strings(value: Any) -> tuple[str, ...]:
    """A string, or the strings in a list; other values are left out."""
    if isinstance(value, str):
        return (value,)
    return tuple(v for v in items(value) if isinstance(v, str))
