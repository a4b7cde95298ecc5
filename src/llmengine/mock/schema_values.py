"""Makes values that fit a JSON schema, by trial: likely values come first, and each one is tested.

A schema is first flattened: every way through its combinators and references gives one flat schema.
Strings, numbers, arrays and objects are then made for flat schemas. They only probably fit, so
`Maker` tests them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from jsonschema.validators import Draft202012Validator, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from llmengine.mock.json_fields import is_number
from llmengine.mock.patterns import matching
from llmengine.mock.text import VOCABULARY
from llmengine.mock.wire import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmengine.mock.behaviour import JSON


_MAX_NUMBERS = 64
_MAX_LENGTH = 100_000

# A sample of each format in JSON Schema; a star marks where it can be made longer.
_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1DT2H",
    "email": "user*@example.com",
    "idn-email": "user*@example.com",
    "hostname": "host*.example.com",
    "idn-hostname": "host*.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/*",
    "uri-reference": "/path/*",
    "iri": "https://example.com/*",
    "iri-reference": "/path/*",
    "uri-template": "/path/*{id}",
    "uuid": "12345678-1234-4234-8234-123456789012",
    "json-pointer": "/path/*",
    "relative-json-pointer": "0/*",
    "regex": "^a*$",
    "byte": "bW9jaw==",
}


def strings(flat: JSON, words: Iterable[str]) -> Iterator[str]:
    """Strings for the schema's format or pattern, or words, adjusted to its length limits."""
    least = min(_whole(flat.get("minLength"), 0), _MAX_LENGTH)
    most = _whole(flat.get("maxLength"), _MAX_LENGTH)
    if sample := _FORMATS.get(str(flat.get("format"))):
        missing = max(0, least - len(sample) + 1)
        yield sample.replace("*", "a" * missing)
    if isinstance(pattern := flat.get("pattern"), str):
        yield from matching(pattern)
    for word in words:
        stretched = word if len(word) >= least else (word * least)[:least] if word else "a" * least
        yield stretched[:most]
    yield "a" * least


def _whole(value: Any, default: int) -> int:
    return int(value) if is_number(value) else default


def integers(flat: JSON) -> Iterator[int]:
    """Whole numbers in the schema's range, from its lower end or from 1."""
    step = _step(flat) if "multipleOf" in flat else Fraction(1)
    step = Fraction(step.numerator)  # the smallest whole multiple of a fraction a/b is a
    yield from (int(n) for n in _multiples(flat, step))


def numbers(flat: JSON) -> Iterator[float]:
    """Numbers in the schema's range, with a fraction if the schema allows one."""
    if "multipleOf" in flat:
        yield from (_plain(n) for n in _multiples(flat, _step(flat)))
        return
    low, high = _bounds(flat)
    if low is not None and high is not None:
        yield _plain((low + high) / 2)
        yield from (_plain(low), _plain(high))
        yield from (_plain(low + (high - low) * i / _MAX_NUMBERS) for i in range(_MAX_NUMBERS))
        return
    start = Fraction(3, 2) if low is None else max(low, Fraction(0)) + Fraction(3, 2)
    if high is not None:
        start = min(start, high - 1)
    near = [b for b in (low, high) if b is not None]
    sign = 1 if high is None else -1
    yield from (_plain(n) for n in chain([start], near, (start + sign * i for i in range(1, 64))))


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
    """Lower and upper bound; excluded bounds count too, because the caller tests each value."""
    lows = [flat.get("minimum"), flat.get("exclusiveMinimum")]
    highs = [flat.get("maximum"), flat.get("exclusiveMaximum")]
    low = max((Fraction(str(v)) for v in lows if is_number(v)), default=None)
    high = min((Fraction(str(v)) for v in highs if is_number(v)), default=None)
    return low, high


def _plain(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)


_MAX_ITEMS = 2000


def arrays(maker: Maker, flat: JSON, depth: int) -> Iterator[list[Any]]:
    """Arrays of a likely length, of the minimum length, and of a few more lengths."""
    prefix, rest = _items(flat)
    least = max(flat.get("minItems", 0), flat.get("minContains", 1) if "contains" in flat else 0)
    likely = least if maker.is_deep(depth) else max(least, len(prefix), 1)
    most = flat.get("maxItems", _MAX_ITEMS)
    lengths = [min(likely, most), least, *range(min(least + 4, most + 1))]
    for length in dict.fromkeys(lengths):
        if length <= _MAX_ITEMS:
            yield from _built_array(maker, flat, (prefix, rest), length, depth)


def _items(flat: JSON) -> tuple[list[Any], Any]:
    """The schemas of the first items and of the others, also in the keywords of older drafts."""
    if isinstance(flat.get("items"), list):
        return flat["items"], flat.get("additionalItems", True)
    return flat.get("prefixItems", []), flat.get("items", True)


def _built_array(
    maker: Maker, flat: JSON, items: tuple[list[Any], Any], length: int, depth: int
) -> Iterator[list[Any]]:
    prefix, rest = items
    built: list[Any] = []
    unique = flat.get("uniqueItems") is True
    for schema in prefix[:length]:
        fresh = _fresh(maker.values(schema, depth + 1), built, unique=unique)
        found = list(islice(fresh, 1))
        if not found:
            return
        built += found
    missing = length - len(built)
    if missing:
        sources = _sources(maker, flat, rest, depth)
        built += islice(_fresh(sources, built, unique=unique), missing)
    if built and not unique:
        built += built[-1:] * (length - len(built))
    if len(built) == length:
        yield built


def _sources(maker: Maker, flat: JSON, rest: Any, depth: int) -> Iterator[Any]:
    """Values for the items after the prefix, starting with those that the array must contain."""
    if "contains" not in flat:
        return maker.values(rest, depth + 1)
    wanted = flat["contains"]
    contained = maker.values({"allOf": [rest, wanted]}, depth + 1)
    others = (v for v in maker.values(rest, depth + 1) if not maker.fits(wanted, v))
    return chain(islice(contained, flat.get("minContains", 1)), others)


def _fresh(values: Iterator[Any], taken: list[Any], *, unique: bool) -> Iterator[Any]:
    """The values; if they must be unique, without those that the array already has."""
    seen = {_key(v) for v in taken} if unique else set()
    for value in values:
        if unique:
            if _key(value) in seen:
                continue
            seen.add(_key(value))
        yield value


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


_VARIANTS = 12
_MAX_NAMES = 128


def objects(maker: Maker, flat: JSON, depth: int) -> Iterator[JSON]:
    """Objects with all properties, with the required ones, and with one more property each."""
    required = list(flat.get("required", ()))
    declared = list(flat.get("properties", {}))
    every = [*declared, *(n for n in required if n not in declared)]
    least = flat.get("minProperties", 0)
    choices = [every, required]
    if maker.is_deep(depth):
        choices.reverse()
    choices += [[*required, name] for name in declared if name not in required]
    for names in choices:
        yield from _built(maker, flat, _filled(maker, flat, names, least, depth), depth)
    for variant in range(1, _VARIANTS):
        names = _filled(maker, flat, every, least, depth)
        yield from _built(maker, flat, names, depth, variant)


def _built(
    maker: Maker, flat: JSON, names: Iterable[str], depth: int, variant: int = 0
) -> Iterator[JSON]:
    """Yield one object with a value for each name, or nothing if a required one has no value."""
    most = flat.get("maxProperties")
    built: JSON = {}
    for name in names:
        schema = _schema_of(flat, name)
        found = list(islice(maker.values(schema, depth + 1), variant + 1))
        if found:
            built[name] = found[-1]
        elif name in flat.get("required", ()):
            return
    if most is None or len(built) <= most:
        yield built


def _filled(maker: Maker, flat: JSON, names: Sequence[str], least: int, depth: int) -> list[str]:
    """The names, with invented ones added up to the minimum number of properties."""
    filled = list(names)
    wanted = max(least, 1 if _is_map(flat) and not maker.is_deep(depth) else 0)
    spare = [n for n in flat.get("properties", {}) if n not in filled]
    for name in (*spare, *_invented(maker, flat, depth)):
        if len(filled) >= wanted:
            break
        if name not in filled:
            filled.append(name)
    return filled


def _is_map(flat: JSON) -> bool:
    """Whether the schema describes arbitrary keys and no fixed ones."""
    free = isinstance(flat.get("additionalProperties"), dict) or "patternProperties" in flat
    return free and not flat.get("properties")


def _invented(maker: Maker, flat: JSON, depth: int) -> Iterator[str]:
    for pattern in flat.get("patternProperties", {}):
        yield from islice(matching(pattern), _MAX_NAMES)
    if flat.get("additionalProperties") is False:
        return
    if "propertyNames" in flat:
        names = {"allOf": [{"type": "string"}, flat["propertyNames"]]}
        yield from islice(maker.values(names, depth + 1), _MAX_NAMES)
    yield from (f"key{i}" for i in range(1, _MAX_NAMES))


def _schema_of(flat: JSON, name: str) -> Any:
    """The schema for a property's value."""
    asked = [s for p, s in flat.get("patternProperties", {}).items() if re.search(p, name)]
    if name in flat.get("properties", {}):
        asked.insert(0, flat["properties"][name])
    if not asked:
        return flat.get("additionalProperties", True)
    return asked[0] if len(asked) == 1 else {"allOf": asked}


Lookup = Callable[[str], Any]

_MAX_STEPS = 60


def flattened(
    schema: Any, lookup: Lookup, *, small_first: bool, steps: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield schemas without references and combinators whose values may fit the given schema.

    `small_first` tries branches without references first, so that recursive schemas end.
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
    """The ways to resolve the schema's first combinator, or None if it has none."""
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


# The order matters: schemas that wait in allOf are merged after the choices before it.
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


# Not merged: if two schemas have the same one, the second is kept in allOf for later.
_CHOICES = frozenset({"anyOf", "oneOf", "if", "then", "else", "$ref", "$dynamicRef"})


def merge(one: Any, two: Any) -> Any:
    """Merge two schemas into one that requires both; False if they surely contradict.

    Keywords that cannot be merged, such as two formats, are left to the test of the value.
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


def _merged_types(one: Any, two: Any) -> list[str]:
    first = one if isinstance(one, list) else [one]
    second = two if isinstance(two, list) else [two]
    common = [t for t in first if t in second or (t == "integer" and "number" in second)]
    if "integer" in second and "number" in first and "integer" not in common:
        common.append("integer")
    return common


def _patterns(one: str, two: str) -> str:
    """A pattern for making samples, not for tests: both patterns in a row, or one of them."""
    return f"(?:{one})(?:{two})|(?:{two})(?:{one})|(?:{one})|(?:{two})"


def _by_key(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    shared = {k: _both(one[k], two[k]) for k in one.keys() & two.keys()}
    return {k: shared.get(k, v) for k, v in {**one, **two}.items()}


_MERGERS: dict[str, Callable[[Any, Any], Any]] = {
    "type": _merged_types,
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
    """Makes values for one schema and for all of its subschemas."""

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
        """The first value that fits; raises SchemaError if there is none."""
        try:
            for found in self.values(self._schema, 0):
                return found
        except Unresolvable as error:
            raise SchemaError(f"'$ref' {error.ref!r} leads nowhere in this schema") from error
        except (RecursionError, ArithmeticError, re.error) as error:
            raise SchemaError(f"this schema cannot be followed: {error}") from error
        raise SchemaError("no value fits this schema, or none was found")

    def values(self, schema: Any, depth: int) -> Iterator[Any]:
        """Values that fit the schema, with repeats; at a great depth small ones come first."""
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
        """Whether the value should end soon, because a schema may contain itself."""
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
        """The words, starting after the last start, so that neighbouring values differ."""
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
