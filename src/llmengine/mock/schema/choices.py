"""A schema without its combinators: one flat schema for each way through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

from llmengine.mock.schema.merging import merge

Lookup = Callable[[str], Any]

_MAX_STEPS = 60


def flattened(
    schema: Any, lookup: Lookup, *, small_first: bool, steps: int = 0
) -> Iterator[dict[str, Any]]:
    """Schemas without references and combinators whose values may fit the one given.

    `small_first` tries branches without references before the others, to come to an end.
    """
    if schema is False or steps > _MAX_STEPS:
        return
    if schema is True:
        schema = {}
    ways = _ways(schema, lookup, small_first=small_first)
    if ways is None:
        yield schema
        return
    for way in ways:
        yield from flattened(way, lookup, small_first=small_first, steps=steps + 1)


def _ways(schema: dict[str, Any], lookup: Lookup, *, small_first: bool) -> Iterator[Any] | None:
    """The ways to take the schema's first combinator away, or None where it has none."""
    for key, take in _TAKERS.items():
        if key in schema:
            rest = {k: v for k, v in schema.items() if k != key}
            return take(rest, schema[key], lookup, small_first)
    return None


def _reference(rest: Any, ref: str, lookup: Lookup, small_first: bool) -> Iterator[Any]:
    return iter([merge(rest, lookup(ref))])


def _branches(rest: Any, given: list[Any], lookup: Lookup, small_first: bool) -> Iterator[Any]:
    branches = sorted(given, key=_has_reference) if small_first else given
    return (merge(rest, branch) for branch in branches)


def _condition(rest: Any, met: Any, lookup: Lookup, small_first: bool) -> Iterator[Any]:
    plain = {k: v for k, v in rest.items() if k not in {"then", "else"}}
    yield merge(plain, merge(met, rest.get("then", True)))
    yield merge(plain, rest.get("else", True))


def _all(rest: Any, given: list[Any], lookup: Lookup, small_first: bool) -> Iterator[Any]:
    return iter([reduce(merge, given, rest)])


def _dependent(
    rest: Any, given: dict[str, Any], lookup: Lookup, small_first: bool
) -> Iterator[Any]:
    yield rest
    asked = ({"required": v} if isinstance(v, list) else v for v in given.values())
    yield reduce(merge, asked, rest)


def _has_reference(branch: Any) -> bool:
    return "'$ref'" in repr(branch) or "'$dynamicRef'" in repr(branch)


# In this order: what waits in allOf is merged once the choices before it are made.
_TAKERS: dict[str, Callable[[Any, Any, Lookup, bool], Iterator[Any]]] = {
    "$ref": _reference,
    "$dynamicRef": _reference,
    "anyOf": _branches,
    "oneOf": _branches,
    "if": _condition,
    "allOf": _all,
    "dependentSchemas": _dependent,
    "dependentRequired": _dependent,
    "dependencies": _dependent,
}
