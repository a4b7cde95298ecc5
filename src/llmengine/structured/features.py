"""The features of JSON schemas by which servers differ: what a schema uses, what a server ignores.

A feature is the keyword of a constraint, such as ``minLength``. It has a variant if servers enforce
one use of the keyword and ignore another: ``minimum:number``, ``format:date``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.types.wire import JSONSchema

# Keywords whose values are subschemas: one, several by position, or several by name.
_ONE = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_SEVERAL = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")


def subschemas(schema: JSONSchema) -> Iterator[JSONSchema]:
    """The schema and all schemas inside it; a ``$ref`` is not followed."""
    yield schema
    inner: list[object] = [schema.get(key) for key in _ONE]
    for key in _SEVERAL:
        found = schema.get(key)
        inner += found if isinstance(found, list) else []
    for key in _NAMED:
        found = schema.get(key)
        inner += found.values() if isinstance(found, Mapping) else []
    for one in inner:
        if isinstance(one, Mapping):
            yield from subschemas(one)


def features_of(schema: JSONSchema) -> frozenset[str]:
    """The features that a schema uses."""
    return frozenset(name for part in subschemas(schema) for name in own_features(part))


def own_features(schema: JSONSchema) -> Iterator[str]:
    """The features of a schema itself, without those of the schemas inside it."""
    for keyword in schema.keys() & KEYWORDS:
        if schema[keyword] in _WITHOUT_EFFECT.get(keyword, ()):
            continue
        variant = _VARIANTS[keyword](schema) if keyword in _VARIANTS else ""
        yield f"{keyword}:{variant}" if variant else keyword


def keyword_of(feature: str) -> str:
    """The keyword of a feature: ``minimum`` for ``minimum:number``."""
    return feature.partition(":")[0]


_OUTER = ("dependentSchemas", "else", "if", "not", "patternProperties", "propertyNames", "then")


def outer_feature(path: Iterable[str | int]) -> str:
    """The first keyword on the way to a subschema that servers often ignore as a whole, or ""."""
    steps = iter(path)
    for step in steps:
        if step in _OUTER:
            return "if" if step in {"then", "else"} else str(step)
        if step in _NAMED:
            next(steps, None)  # a name, which may be that of a keyword
    return ""


KEYWORDS = frozenset(
    {
        *("type", "enum", "const", "$ref"),
        *("minLength", "maxLength", "pattern", "format"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        *("contains", "minContains", "maxContains"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("minProperties", "maxProperties", "propertyNames"),
        *("dependentRequired", "dependentSchemas"),
        *("anyOf", "oneOf", "allOf", "not", "if"),
    }
)
"""The keywords that constrain an answer."""

_WITHOUT_EFFECT: dict[str, tuple[object, ...]] = {
    "additionalProperties": (True, {}),
    "items": (True, {}),
    "minItems": (0,),
    "minLength": (0,),
    "minProperties": (0,),
    "uniqueItems": (False,),
}


def _kind_of_number(schema: JSONSchema) -> str:
    kinds = schema.get("type")
    types = kinds if isinstance(kinds, list) else [kinds]
    return "" if "integer" in types and "number" not in types else "number"


def _pattern(schema: JSONSchema) -> str:
    pattern = str(schema["pattern"])
    return "" if pattern.startswith("^") and pattern.endswith("$") else "unanchored"


def _one_of(schema: JSONSchema) -> str:
    """Whether at most one choice can fit, because each has its own constant or its own type.

    Such a ``oneOf`` means the same as ``anyOf``.
    """
    if "discriminator" in schema:  # pydantic's mark of a union whose choices have tags
        return "exclusive"
    choices = schema["oneOf"] if isinstance(schema["oneOf"], list) else []
    tags = [_tags(choice) for choice in choices]
    keys = {key for found in tags for key in found}
    is_exclusive = any(_all_differ([found.get(key) for found in tags]) for key in keys)
    return "exclusive" if is_exclusive else ""


def _tags(choice: object) -> dict[str, object]:
    """What tells the values of a choice from those of others: constant properties, and the type."""
    if not isinstance(choice, Mapping):
        return {}
    properties, required = choice.get("properties"), choice.get("required")
    found: dict[str, object] = {"": choice.get("type")}
    if isinstance(properties, Mapping) and isinstance(required, list):
        for name, part in properties.items():
            if name in required and isinstance(part, Mapping):
                found[name] = part.get("const")
    return found


def _all_differ(values: list[object]) -> bool:
    overlap = "integer" in values and "number" in values
    return None not in values and not overlap and len(set(map(repr, values))) == len(values)


_VARIANTS: dict[str, Callable[[JSONSchema], str]] = {
    "additionalProperties": lambda schema: (
        "" if schema["additionalProperties"] is False else "schema"
    ),
    "exclusiveMaximum": _kind_of_number,
    "exclusiveMinimum": _kind_of_number,
    "format": lambda schema: str(schema["format"]),
    "items": lambda schema: "false" if schema["items"] is False else "",
    "maximum": _kind_of_number,
    "minimum": _kind_of_number,
    "multipleOf": _kind_of_number,
    "oneOf": _one_of,
    "pattern": _pattern,
}


LLAMA_CPP_IGNORES = frozenset(
    {
        *("minimum:number", "maximum:number", "exclusiveMinimum:number", "exclusiveMaximum:number"),
        *("multipleOf", "multipleOf:number", "pattern:unanchored"),
        *("format:duration", "format:email", "format:hostname"),
        *("format:ipv4", "format:ipv6", "format:uri"),
        *("uniqueItems", "contains", "minContains", "maxContains"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties"),
        *("dependentRequired", "dependentSchemas", "if", "not", "oneOf"),
    }
)
"""What llama.cpp b11549 accepts and does not enforce, by the rules of ``struct.matrix``.

Measured with xllamacpp 2026.10.11549 and SmolLM2-135M on 2026-11-27.
"""

VLLM_IGNORES = frozenset(
    {
        *("multipleOf:number", "allOf", "oneOf", "not", "if"),
        *("dependentRequired", "dependentSchemas"),
    }
)
"""What vLLM 0.32.0 accepts and does not enforce with its default settings (xgrammar 0.2.8).

Measured on a CPU with SmolLM2-135M on 2026-11-27.
"""
