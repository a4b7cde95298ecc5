"""Resolves the references and combinators of a JSON schema into flat schemas.

Each way through ``anyOf``, ``if`` and the other combinators gives one flat schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON

# A schema is an object or a boolean, but a request may hold anything in its place.
Schema = Any


class SchemaError(ValueError):
    """The schema is invalid, or no value was found for it."""


Lookup = Callable[[str], Schema]

_MAX_STEPS = 60


def flat_schemas(
    schema: Schema, lookup: Lookup, *, small_first: bool, steps: int = 0
) -> Iterator[JSON]:
    """Yield schemas without references and combinators whose values may fit the given schema.

    `small_first` tries branches without references first, so that recursive schemas end.
    """
    if schema is False or steps > _MAX_STEPS:
        return
    if schema is True:
        schema = {}
    resolved = _resolved(schema, lookup, small_first=small_first)
    if resolved is None:
        yield schema
        return
    for way in resolved:
        yield from flat_schemas(way, lookup, small_first=small_first, steps=steps + 1)


def _resolved(schema: JSON, lookup: Lookup, *, small_first: bool) -> Iterator[Schema] | None:
    """The ways to resolve the schema's first combinator, or None if it has none."""
    for key, resolve in _RESOLVERS.items():
        if key in schema:
            rest = {k: v for k, v in schema.items() if k != key}
            return resolve(rest, schema[key], lookup, small_first)
    return None


def _reference(rest: JSON, ref: str, lookup: Lookup, small_first: bool) -> Iterator[Schema]:
    yield merge(rest, lookup(ref))


def _branches(
    rest: JSON, branches: list[Schema], lookup: Lookup, small_first: bool
) -> Iterator[Schema]:
    ordered = sorted(branches, key=_has_reference) if small_first else branches
    return (merge(rest, branch) for branch in ordered)


def _condition(
    rest: JSON, condition: Schema, lookup: Lookup, small_first: bool
) -> Iterator[Schema]:
    plain = {k: v for k, v in rest.items() if k not in {"then", "else"}}
    yield merge(plain, merge(condition, rest.get("then", True)))
    yield merge(plain, rest.get("else", True))


def _all(rest: JSON, schemas: list[Schema], lookup: Lookup, small_first: bool) -> Iterator[Schema]:
    yield reduce(merge, schemas, rest)


def _dependent(rest: JSON, dependents: JSON, lookup: Lookup, small_first: bool) -> Iterator[Schema]:
    yield rest
    schemas = ({"required": v} if isinstance(v, list) else v for v in dependents.values())
    yield reduce(merge, schemas, rest)


def _has_reference(branch: Schema) -> bool:
    return "'$ref'" in repr(branch) or "'$dynamicRef'" in repr(branch)


# The order matters: `merge` moves some keywords into allOf, which comes after the choices.
_RESOLVERS: dict[str, Callable[[JSON, Schema, Lookup, bool], Iterator[Schema]]] = {
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


# These are not merged: if both schemas have the keyword, allOf keeps the second one for later.
_CHOICES = frozenset({"anyOf", "oneOf", "if", "then", "else", "$ref", "$dynamicRef"})


def merge(one: Schema, two: Schema) -> Schema:
    """Merge two schemas into one that requires both; False if they certainly contradict.

    Keywords that cannot be merged, such as two formats, are left to the validation of the value.
    """
    if one is False or two is False:
        return False
    if one is True or two is True:
        return two if one is True else one
    merged = dict(one)
    postponed = {k: v for k, v in two.items() if k in _CHOICES and k in one and one[k] != v}
    if postponed.keys() & {"if", "then", "else"} or ("if" in two and "if" in one):
        postponed |= {k: v for k, v in two.items() if k in {"if", "then", "else"}}
    for key, value in two.items():
        if key in postponed:
            continue
        merged[key] = _MERGERS.get(key, _first)(one[key], value) if key in one else value
    if postponed:
        merged["allOf"] = [*merged.get("allOf", []), postponed]
    empty = merged.get("type") == [] or merged.get("enum") == []
    return False if empty else merged


def _first(one: object, two: object) -> object:
    return one


def _both(one: Schema, two: Schema) -> Schema:
    return one if one == two else {"allOf": [one, two]}


def _common_types(one: str | list[str], two: str | list[str]) -> list[str]:
    first = one if isinstance(one, list) else [one]
    second = two if isinstance(two, list) else [two]
    common = [t for t in first if t in second or (t == "integer" and "number" in second)]
    if "integer" in second and "number" in first and "integer" not in common:
        common.append("integer")
    return common


def _patterns(one: str, two: str) -> str:
    """A pattern for making strings, not for validation: both in a row, or one of them."""
    return f"(?:{one})(?:{two})|(?:{two})(?:{one})|(?:{one})|(?:{two})"


def _by_key(one: JSON, two: JSON) -> JSON:
    shared = {k: _both(one[k], two[k]) for k in one.keys() & two.keys()}
    return {k: shared.get(k, v) for k, v in {**one, **two}.items()}


_MERGERS: dict[str, Callable[..., Schema]] = {
    "type": _common_types,
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
