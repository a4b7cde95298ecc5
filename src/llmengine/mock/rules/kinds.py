"""What a rule is, and the kinds that most of them are of."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import is_number

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server can hold a request against."""

    models: frozenset[str]
    context_length: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request, in OpenAI's words."""

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400


Finder = Callable[["JSON", Limits], Problem | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule by name; ``find`` says what breaks it, or None. It must bear any JSON object."""

    name: str
    find: Finder


def required(field: str) -> Finder:
    """The field must be there, and not null."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        if body.get(field) is not None:
            return None
        return Problem(
            f"Missing required parameter: '{field}'.", field, "missing_required_parameter"
        )

    return find


_TYPES: dict[str, Callable[[Any], bool]] = {
    "a boolean": lambda v: isinstance(v, bool),
    "an integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "a number": is_number,
    "a string": lambda v: isinstance(v, str),
    "an array": lambda v: isinstance(v, list),
    "an object": lambda v: isinstance(v, dict),
}


def typed(**fields: str) -> Finder:
    """Each field, where it is there, must be of its type, such as ``a number``."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        for field, kind in fields.items():
            value = body.get(field)
            if value is not None and not _TYPES[kind](value):
                return wrong_type(field, kind, value)
        return None

    return find


def wrong_type(field: str, expected: str, value: Any) -> Problem:
    """The problem of a value of another type than expected."""
    message = f"Invalid type for '{field}': expected {expected}, but got {described(value)}."
    return Problem(message, field, "invalid_type")


def described(value: Any) -> str:
    """A JSON value's type in words."""
    if value is None:
        return "null"
    return next(kind for kind, fits in _TYPES.items() if fits(value))


def within(field: str, low: float, high: float | None = None) -> Finder:
    """The field, where it is a number, must be in the closed range."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        value = body.get(field)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        kind = "integer" if isinstance(value, int) else "decimal"
        if value < low:
            bound, code = f"a value >= {low:g}", f"{kind}_below_min_value"
        elif high is not None and value > high:
            bound, code = f"a value <= {high:g}", f"{kind}_above_max_value"
        else:
            return None
        message = f"Invalid '{field}': {kind} out of range. Expected {bound}, but got {value}."
        return Problem(message, field, code)

    return find


def one_of(field: str, allowed: Collection[str]) -> Finder:
    """The field, where it is a string, must be one of these."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        value = body.get(field)
        if not isinstance(value, str) or value in allowed:
            return None
        return unknown_value(field, value, allowed)

    return find


def unknown_value(field: str, value: Any, allowed: Collection[str]) -> Problem:
    """The problem of a value that is none of the allowed ones."""
    names = ", ".join(f"'{a}'" for a in sorted(allowed))
    message = f"Invalid value: {value!r}. Supported values are: {names}."
    return Problem(message, field, "invalid_value")


def either(*finders: Finder) -> Finder:
    """One rule made of several: the first problem counts."""

    def find(body: JSON, limits: Limits) -> Problem | None:
        return next((p for f in finders if (p := f(body, limits)) is not None), None)

    return find
