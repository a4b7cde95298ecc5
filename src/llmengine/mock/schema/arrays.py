"""Arrays to try on a schema without combinators."""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.schema.maker import Maker

_MAX_ITEMS = 2000


def arrays(maker: Maker, flat: JSON, depth: int) -> Iterator[list[Any]]:
    """Arrays of a likely length, of the least, and of a few more."""
    prefix, rest = _items(flat)
    least = max(flat.get("minItems", 0), flat.get("minContains", 1) if "contains" in flat else 0)
    likely = least if maker.is_deep(depth) else max(least, len(prefix), 1)
    most = flat.get("maxItems", _MAX_ITEMS)
    lengths = [min(likely, most), least, *range(min(least + 4, most + 1))]
    for length in dict.fromkeys(lengths):
        if length <= _MAX_ITEMS:
            yield from _built(maker, flat, (prefix, rest), length, depth)


def _items(flat: JSON) -> tuple[list[Any], Any]:
    """The schemas of the first items and of the others; older drafts spell it another way."""
    if isinstance(flat.get("items"), list):
        return flat["items"], flat.get("additionalItems", True)
    return flat.get("prefixItems", []), flat.get("items", True)


def _built(
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
    """Values for the items past the prefix: first those that the array must contain."""
    if "contains" not in flat:
        return maker.values(rest, depth + 1)
    wanted = flat["contains"]
    contained = maker.values({"allOf": [rest, wanted]}, depth + 1)
    others = (v for v in maker.values(rest, depth + 1) if not maker.fits(wanted, v))
    return chain(islice(contained, flat.get("minContains", 1)), others)


def _fresh(values: Iterator[Any], taken: list[Any], *, unique: bool) -> Iterator[Any]:
    """The values, without those that the array has where they must differ."""
    seen = {_key(v) for v in taken} if unique else set()
    for value in values:
        if unique:
            if _key(value) in seen:
                continue
            seen.add(_key(value))
        yield value


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
