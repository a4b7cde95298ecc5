"""Makes values that fit a JSON schema by trial: likely values come first, and each is validated.

`flat_schemas` resolves the references and combinators. The functions for strings, numbers, arrays
and objects make values for a flat schema. These values only probably fit, so `ValueGenerator`
validates them.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from llmengine.mock.json_fields import is_number, number
from llmengine.mock.patterns import strings_matching
from llmengine.mock.schema_combinators import Schema, SchemaError, flat_schemas
from llmengine.mock.schema_formats import SAMPLES, format_checker
from llmengine.mock.text import VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llmengine.mock.behaviour import JSON


_MAX_NUMBERS = 64
_MAX_LENGTH = 100_000


def strings(flat: JSON, words: Iterable[str]) -> Iterator[str]:
    """Strings for the schema's format or pattern, or words, adjusted to its length limits."""
    least = min(_whole(flat.get("minLength"), 0), _MAX_LENGTH)
    most = _whole(flat.get("maxLength"), _MAX_LENGTH)
    if sample := SAMPLES.get(str(flat.get("format"))):
        missing = max(0, least - len(sample) + 1)
        yield sample.replace("*", "a" * missing)
    if isinstance(pattern := flat.get("pattern"), str):
        yield from strings_matching(pattern)
    for word in words:
        stretched = word if len(word) >= least else (word * least)[:least] if word else "a" * least
        yield stretched[:most]
    yield "a" * least


def _whole(value: object, default: int) -> int:
    return int(number(value, default))


def integers(flat: JSON) -> Iterator[int]:
    """Whole numbers in the schema's range, from its lower end or from 1."""
    step = _step(flat) if "multipleOf" in flat else Fraction(1)
    step = Fraction(step.numerator)  # the smallest whole multiple of a fraction a/b is a
    yield from (int(n) for n in _multiples(flat, step))


def numbers(flat: JSON) -> Iterator[float]:
    """Numbers in the schema's range, with a fraction if the schema allows one."""
    if "multipleOf" in flat:
        yield from (_json_number(n) for n in _multiples(flat, _step(flat)))
        return
    low, high = _bounds(flat)
    if low is not None and high is not None:
        yield _json_number((low + high) / 2)
        yield from (_json_number(low), _json_number(high))
        yield from (
            _json_number(low + (high - low) * i / _MAX_NUMBERS) for i in range(_MAX_NUMBERS)
        )
        return
    start = Fraction(3, 2) if low is None else max(low, Fraction(0)) + Fraction(3, 2)
    if high is not None:
        start = min(start, high - 1)
    near = [b for b in (low, high) if b is not None]
    sign = 1 if high is None else -1
    yield from (
        _json_number(n) for n in chain([start], near, (start + sign * i for i in range(1, 64)))
    )


def _step(flat: JSON) -> Fraction:
    return Fraction(str(flat["multipleOf"]))


def _multiples(flat: JSON, step: Fraction) -> Iterator[Fraction]:
    low, high = _bounds(flat)
    if low is not None:
        first = math.ceil(low / step)
        found = (step * n for n in range(first, first + _MAX_NUMBERS))
    elif high is not None and high < step:
        last = math.floor(high / step)
        found = (step * n for n in range(last, last - _MAX_NUMBERS, -1))
    else:
        found = (step * n for n in (*range(1, _MAX_NUMBERS), 0, -1))
    yield from islice((n for n in found if high is None or n <= high), _MAX_NUMBERS)


def _bounds(flat: JSON) -> tuple[Fraction | None, Fraction | None]:
    """The lower and the upper bound, excluded ones too, because the caller validates each value."""
    lows = [flat.get("minimum"), flat.get("exclusiveMinimum")]
    highs = [flat.get("maximum"), flat.get("exclusiveMaximum")]
    low = max((Fraction(str(v)) for v in lows if is_number(v)), default=None)
    high = min((Fraction(str(v)) for v in highs if is_number(v)), default=None)
    return low, high


def _json_number(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)


_MAX_ITEMS = 2000


def arrays(generator: ValueGenerator, flat: JSON, depth: int) -> Iterator[list[object]]:
    """Arrays of a likely length, of the minimum length, and of a few more lengths."""
    prefix, rest = _items(flat)
    least = max(flat.get("minItems", 0), flat.get("minContains", 1) if "contains" in flat else 0)
    likely = least if generator.is_deep(depth) else max(least, len(prefix), 1)
    most = flat.get("maxItems", _MAX_ITEMS)
    lengths = [min(likely, most), least, *range(min(least + 4, most + 1))]
    for length in dict.fromkeys(lengths):
        if length <= _MAX_ITEMS:
            yield from _built_array(generator, flat, (prefix, rest), length, depth)


def _items(flat: JSON) -> tuple[list[Schema], Schema]:
    """The schemas of the first items and of the others, also in the keywords of older drafts."""
    if isinstance(flat.get("items"), list):
        return flat["items"], flat.get("additionalItems", True)
    return flat.get("prefixItems", []), flat.get("items", True)


def _built_array(
    generator: ValueGenerator,
    flat: JSON,
    items: tuple[list[Schema], Schema],
    length: int,
    depth: int,
) -> Iterator[list[object]]:
    prefix, rest = items
    built: list[object] = []
    unique = flat.get("uniqueItems") is True
    for schema in prefix[:length]:
        values = _without_repeats(generator.values(schema, depth + 1), built, unique=unique)
        found = list(islice(values, 1))
        if not found:
            return
        built += found
    missing = length - len(built)
    if missing:
        further = _further_items(generator, flat, rest, depth)
        built += islice(_without_repeats(further, built, unique=unique), missing)
    if built and not unique:
        built += built[-1:] * (length - len(built))
    if len(built) == length:
        yield built


def _further_items(
    generator: ValueGenerator, flat: JSON, rest: Schema, depth: int
) -> Iterator[object]:
    """Values for the items after the prefix, starting with those that the array must contain."""
    if "contains" not in flat:
        return generator.values(rest, depth + 1)
    wanted = flat["contains"]
    contained = chain.from_iterable(
        repeat(value, 1 if flat.get("uniqueItems") else flat.get("minContains", 1))
        for value in generator.values({"allOf": [rest, wanted]}, depth + 1)
    )
    others = (v for v in generator.values(rest, depth + 1) if not generator.fits(wanted, v))
    return chain(islice(contained, flat.get("minContains", 1)), others)


def _without_repeats(
    values: Iterator[object], taken: list[object], *, unique: bool
) -> Iterator[object]:
    """The values; if they must be unique, without those that the array already has."""
    seen = {_key(v) for v in taken} if unique else set()
    for value in values:
        if unique:
            if _key(value) in seen:
                continue
            seen.add(_key(value))
        yield value


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True)


_VARIANTS = 12
_MAX_NAMES = 128


def objects(generator: ValueGenerator, flat: JSON, depth: int) -> Iterator[JSON]:
    """Objects with all properties, with the required ones, and with one more property each."""
    required = list(flat.get("required", ()))
    declared = list(flat.get("properties", {}))
    every = [*declared, *(n for n in required if n not in declared)]
    least = flat.get("minProperties", 0)
    choices = [every, required]
    if generator.is_deep(depth):
        choices.reverse()
    choices += [[*required, name] for name in declared if name not in required]
    for names in choices:
        yield from _built(
            generator, flat, _names_with_spare(generator, flat, names, least, depth), depth
        )
    for variant in range(1, _VARIANTS):
        names = _names_with_spare(generator, flat, every, least, depth)
        yield from _built(generator, flat, names, depth, variant)


def _built(
    generator: ValueGenerator, flat: JSON, names: Iterable[str], depth: int, variant: int = 0
) -> Iterator[JSON]:
    """Yield one object with a value for each name, or nothing if a required one has no value."""
    most = flat.get("maxProperties")
    built: JSON = {}
    for name in names:
        schema = _property_schema(flat, name)
        found = list(islice(generator.values(schema, depth + 1), variant + 1))
        if found:
            built[name] = found[-1]
        elif name in flat.get("required", ()):
            return
    if most is None or len(built) <= most:
        yield built


def _names_with_spare(
    generator: ValueGenerator, flat: JSON, names: Sequence[str], least: int, depth: int
) -> list[str]:
    """The names, with invented ones added up to the minimum number of properties."""
    filled = list(names)
    wanted = max(least, 1 if _is_map(flat) and not generator.is_deep(depth) else 0)
    spare = [n for n in flat.get("properties", {}) if n not in filled]
    for name in (*spare, *_invented(generator, flat, depth)):
        if len(filled) >= wanted:
            break
        if name not in filled:
            filled.append(name)
    return filled


def _is_map(flat: JSON) -> bool:
    """Whether the schema describes arbitrary keys and no fixed ones."""
    free = isinstance(flat.get("additionalProperties"), dict) or "patternProperties" in flat
    return free and not flat.get("properties")


def _invented(generator: ValueGenerator, flat: JSON, depth: int) -> Iterator[str]:
    for pattern in flat.get("patternProperties", {}):
        yield from islice(strings_matching(pattern), _MAX_NAMES)
    if flat.get("additionalProperties") is False:
        return
    if "propertyNames" in flat:
        names = {"allOf": [{"type": "string"}, flat["propertyNames"]]}
        yield from islice(generator.values(names, depth + 1), _MAX_NAMES)
    yield from (f"key{i}" for i in range(1, _MAX_NAMES))


def _property_schema(flat: JSON, name: str) -> Schema:
    """The schema for a property's value."""
    schemas = [s for p, s in flat.get("patternProperties", {}).items() if re.search(p, name)]
    if name in flat.get("properties", {}):
        schemas.insert(0, flat["properties"][name])
    if not schemas:
        return flat.get("additionalProperties", True)
    return schemas[0] if len(schemas) == 1 else {"allOf": schemas}


_MAX_TRIALS = 5_000
_MAX_TRIALS_PER_SCHEMA = 300
_MAX_DEPTH = 14
_DEEP = 3

_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")
_IMPLIED = {
    "object": {"properties", "required", "patternProperties", "minProperties", "propertyNames"},
    "array": {"items", "prefixItems", "contains", "minItems", "uniqueItems"},
    "string": {"pattern", "format", "minLength", "maxLength"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


@contextmanager
def _schema_errors() -> Iterator[None]:
    """Raise SchemaError for a schema that cannot be followed to its end."""
    try:
        yield
    except Unresolvable as error:
        raise SchemaError(f"'$ref' {error.ref!r} is not in this schema") from error
    except (RecursionError, ArithmeticError, re.error) as error:
        raise SchemaError(f"this schema cannot be resolved: {error}") from error


class ValueGenerator:
    """Makes values for one schema and for all of its subschemas."""

    def __init__(
        self, schema: Schema, words: Sequence[str], seed: int, numbers: Sequence[float] = ()
    ) -> None:
        validator = validator_for(schema, default=Draft202012Validator)
        self._validator = validator(schema, format_checker=format_checker())
        dialect = specification_with(str(validator.META_SCHEMA["$schema"]), default=DRAFT202012)
        resource = dialect.create_resource(schema)
        self._resolver = Registry().resolver_with_root(resource)
        self._schema = schema
        self._words = list(words)
        self._seed = seed
        self._numbers = list(numbers)
        self._trials = 0
        self._strings = 0
        self._amounts = 0

    def value(self) -> object:
        """The first value that fits; raises SchemaError if there is none."""
        with _schema_errors():
            for value in self.values(self._schema, 0):
                return value
        raise SchemaError("no value fits this schema, or none was found")

    def accepts(self, value: object) -> bool:
        """Whether the value fits the whole schema; raises SchemaError if that is unknown."""
        with _schema_errors():
            return self.fits(self._schema, value)

    def values(self, schema: Schema, depth: int) -> Iterator[object]:
        """Yield values that fit the schema, some repeatedly; at a great depth small ones first."""
        if depth > _MAX_DEPTH:
            return
        self._count_trial()
        for value in islice(self._candidates(schema, depth), _MAX_TRIALS_PER_SCHEMA):
            self._count_trial()
            if self.fits(schema, value):
                yield value

    def _count_trial(self) -> None:
        self._trials += 1
        if self._trials > _MAX_TRIALS:
            raise SchemaError("this schema does not end, or needs too many trials")

    def fits(self, schema: Schema, value: Any) -> bool:
        """Whether the value fits the schema."""
        return bool(self._validator.evolve(schema=schema).is_valid(value))

    def lookup(self, ref: str) -> Schema:
        """The schema that a reference points to."""
        return self._resolver.lookup(ref).contents

    @staticmethod
    def is_deep(depth: int) -> bool:
        """Whether the value should end soon, because a schema may contain itself."""
        return depth >= _DEEP

    def _candidates(self, schema: Schema, depth: int) -> Iterator[object]:
        for flat in flat_schemas(schema, self.lookup, small_first=self.is_deep(depth)):
            if "const" in flat:
                yield flat["const"]
            elif "enum" in flat:
                yield from flat["enum"]
            else:
                yield from self._of_types(flat, depth)

    def _of_types(self, flat: JSON, depth: int) -> Iterator[object]:
        types = _types(flat)
        if self.is_deep(depth) and "null" in types:
            types = ["null", *types]
        # All are made now, so that the words of other strings do not depend on which are tried.
        yield from chain.from_iterable([self._of_type(kind, flat, depth) for kind in types])

    def _of_type(self, kind: str, flat: JSON, depth: int) -> Iterator[object]:
        if kind == "string":
            return strings(flat, self._next_words())
        if kind == "object":
            return objects(self, flat, depth)
        if kind == "array":
            return arrays(self, flat, depth)
        if kind in {"integer", "number"}:
            return chain(
                self._next_numbers(), integers(flat) if kind == "integer" else numbers(flat)
            )
        plain: dict[str, Iterator[object]] = {
            "boolean": iter((True, False)),
            "null": iter((None,)),
        }
        return plain[kind]

    def _next_words(self) -> Iterator[str]:
        """The words, each call from the next one on, so that neighbouring values differ."""
        words = self._words or VOCABULARY
        first = self._strings if self._words else self._seed + self._strings
        self._strings += 1
        return (words[(first + i) % len(words)] for i in range(len(words)))

    def _next_numbers(self) -> Iterator[float]:
        """The given numbers, each call from the next one on, so that each is used once."""
        first = self._amounts
        self._amounts += 1
        return iter(self._numbers[first:])


def _types(flat: JSON) -> list[str]:
    given = flat.get("type")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list):
        return sorted(given, key="null".__eq__)
    implied = [kind for kind, keys in _IMPLIED.items() if keys & flat.keys()]
    return [*implied, *(t for t in _TYPES if t not in implied)]
