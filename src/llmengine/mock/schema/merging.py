"""Two schemas as one that asks for both, as far as a maker of values needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Left where two schemas have one each: the second waits for its turn in allOf.
_CHOICES = frozenset({"anyOf", "oneOf", "if", "then", "else", "$ref", "$dynamicRef"})


def merge(one: Any, two: Any) -> Any:
    """One schema for both; False where they contradict each other for sure.

    What it cannot merge, such as two formats, it leaves to the test of the value.
    """
    if one is False or two is False:
        return False
    if one is True or two is True:
        return two if one is True else one
    merged = dict(one)
    waiting = {k: v for k, v in two.items() if k in _CHOICES and k in one and one[k] != v}
    if waiting.keys() & {"if", "then", "else"} or ("if" in two and "if" in one):
        waiting |= {k: v for k, v in two.items() if k in {"if", "then", "else"}}
    for key, value in two.items():
        if key in waiting:
            continue
        merged[key] = _MERGERS.get(key, _first)(one[key], value) if key in one else value
    if waiting:
        merged["allOf"] = [*merged.get("allOf", []), waiting]
    empty = merged.get("type") == [] or merged.get("enum") == []
    return False if empty else merged


def _first(one: Any, two: Any) -> Any:
    return one


def _both(one: Any, two: Any) -> Any:
    return one if one == two else {"allOf": [one, two]}


def _types(one: Any, two: Any) -> list[str]:
    first = one if isinstance(one, list) else [one]
    second = two if isinstance(two, list) else [two]
    common = [t for t in first if t in second or (t == "integer" and "number" in second)]
    if "integer" in second and "number" in first and "integer" not in common:
        common.append("integer")
    return common


def _patterns(one: str, two: str) -> str:
    """A pattern to read samples off, not to test with: both in a row, or either."""
    return f"(?:{one})(?:{two})|(?:{two})(?:{one})|(?:{one})|(?:{two})"


def _by_key(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    shared = {k: _both(one[k], two[k]) for k in one.keys() & two.keys()}
    return {k: shared.get(k, v) for k, v in {**one, **two}.items()}


_MERGERS: dict[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "properties": _by_key,
    "patternProperties": _by_key,
    "required": lambda a, b: [*a, *(k for k in b if k not in a)],
    "enum": lambda a, b: [v for v in a if v in b],
    "allOf": lambda a, b: [*a, *b],
    "pattern": _patterns,
    "items": _both,
    "additionalProperties": _both,
    "propertyNames": _both,
    "minimum": max,
    "exclusiveMinimum": max,
    "minLength": max,
    "minItems": max,
    "minProperties": max,
    "minContains": max,
    "maximum": min,
    "exclusiveMaximum": min,
    "maxLength": min,
    "maxItems": min,
    "maxProperties": min,
    "maxContains": min,
}
