"""Values for a JSON schema by trial: likely ones first, each tested before it is used."""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from llmengine.mock.schema.arrays import arrays
from llmengine.mock.schema.choices import flattened
from llmengine.mock.schema.errors import SchemaError
from llmengine.mock.schema.objects import objects
from llmengine.mock.schema.scalars import integers, numbers, strings
from llmengine.mock.text import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llmengine.mock.behaviour import JSON

_MAX_TRIALS = 5_000
_MAX_TRIALS_A_SCHEMA = 300
_MAX_DEPTH = 14
_DEEP = 3

_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
_IMPLIED = {
    "object": {"properties", "required", "patternProperties", "minProperties", "propertyNames"},
    "array": {"items", "prefixItems", "contains", "minItems", "uniqueItems"},
    "string": {"pattern", "format", "minLength", "maxLength"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


class Maker:
    """Makes values for one schema; its subschemas are made by the same one."""

    def __init__(self, schema: Any, words: Sequence[str], seed: int) -> None:
        kind = validator_for(schema, default=Draft202012Validator)
        self._validator = kind(schema, format_checker=kind.FORMAT_CHECKER)
        dialect = specification_with(str(kind.META_SCHEMA["$schema"]), default=DRAFT202012)
        resource = dialect.create_resource(schema)
        self._resolver = Registry().resolver_with_root(resource)
        self._schema = schema
        self._words = list(words)
        self._seed = seed
        self._trials = 0
        self._strings = 0

    def value(self) -> Any:
        """The first value found; SchemaError where there is none."""
        try:
            for found in self.values(self._schema, 0):
                return found
        except Unresolvable as error:
            raise SchemaError(f"'$ref' {error.ref!r} leads nowhere in this schema") from error
        except (RecursionError, ArithmeticError, re.error) as error:
            raise SchemaError(f"this schema cannot be followed: {error}") from error
        raise SchemaError("no value fits this schema, or none was found")

    def values(self, schema: Any, depth: int) -> Iterator[Any]:
        """Values that fit the schema, with repeats; at a depth the small ones come first."""
        if depth > _MAX_DEPTH:
            return
        self._try()
        for value in islice(self._candidates(schema, depth), _MAX_TRIALS_A_SCHEMA):
            self._try()
            if self.fits(schema, value):
                yield value

    def _try(self) -> None:
        self._trials += 1
        if self._trials > _MAX_TRIALS:
            raise SchemaError("this schema has no end, or takes too many trials")

    def fits(self, schema: Any, value: Any) -> bool:
        """Whether the value fits the schema."""
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def lookup(self, ref: str) -> Any:
        """The schema that a reference points to."""
        return self._resolver.lookup(ref).contents

    @staticmethod
    def is_deep(depth: int) -> bool:
        """Whether it is time to come to an end, for a schema may contain itself."""
        return depth >= _DEEP

    def _candidates(self, schema: Any, depth: int) -> Iterator[Any]:
        for flat in flattened(schema, self.lookup, small_first=self.is_deep(depth)):
            if "const" in flat:
                yield flat["const"]
            elif "enum" in flat:
                yield from flat["enum"]
            else:
                yield from self._of_types(flat, depth)

    def _of_types(self, flat: JSON, depth: int) -> Iterator[Any]:
        wanted = _types(flat)
        if self.is_deep(depth) and "null" in wanted:
            wanted = ["null", *wanted]
        makers = [self._of_type(kind, flat, depth) for kind in wanted]
        yield from chain.from_iterable(makers)

    def _of_type(self, kind: str, flat: JSON, depth: int) -> Iterator[Any]:
        if kind == "string":
            return strings(flat, self._next_words())
        if kind == "object":
            return objects(self, flat, depth)
        if kind == "array":
            return arrays(self, flat, depth)
        plain: dict[str, Iterator[Any]] = {
            "integer": integers(flat),
            "number": numbers(flat),
            "boolean": iter((True, False)),
            "null": iter((None,)),
        }
        return plain[kind]

    def _next_words(self) -> Iterator[str]:
        """Words from the next one on, so that neighbours differ."""
        words = self._words or VOCABULARY
        first = self._strings if self._words else self._seed + self._strings
        self._strings += 1
        return (words[(first + i) % len(words)] for i in range(len(words)))


def _types(flat: JSON) -> list[str]:
    given = flat.get("type")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list):
        return sorted(given, key="null".__eq__)
    implied = [kind for kind, keys in _IMPLIED.items() if keys & flat.keys()]
    return [*implied, *(t for t in _TYPES if t not in implied)]
