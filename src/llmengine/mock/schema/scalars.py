"""Strings and numbers to try on a schema without combinators."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from llmengine.mock.reading import is_number
from llmengine.mock.schema.patterns import matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmengine.mock.behaviour import JSON

_MAX_NUMBERS = 64
_MAX_LENGTH = 100_000

# A sample of each format of JSON Schema; the star is where it can be made longer.
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
    """Strings of the schema's format or pattern, else words, stretched or cut to its lengths."""
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
    step = Fraction(step.numerator)  # the least whole multiple of a fraction a/b is a
    yield from (int(n) for n in _multiples(flat, step))


def numbers(flat: JSON) -> Iterator[float]:
    """Numbers in the schema's range, with a fraction where that is free."""
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
    """Bounds with the excluded ones in: a caller tests what comes."""
    lows = [flat.get("minimum"), flat.get("exclusiveMinimum")]
    highs = [flat.get("maximum"), flat.get("exclusiveMaximum")]
    low = max((Fraction(str(v)) for v in lows if is_number(v)), default=None)
    high = min((Fraction(str(v)) for v in highs if is_number(v)), default=None)
    return low, high


def _plain(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)
