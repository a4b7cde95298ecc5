"""Objects to try on a schema without combinators."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from llmengine.mock.schema.patterns import matching

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.schema.maker import Maker

_VARIANTS = 12
_MAX_NAMES = 128


def objects(maker: Maker, flat: JSON, depth: int) -> Iterator[JSON]:
    """Objects with all properties, with the required ones, and with one more each."""
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
    """One object with a value for each name, or none where a required one has no value."""
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
    """The names, with invented ones up to the least number of properties."""
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
    """Whether the schema describes free keys and no fixed ones."""
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
    """What a property's value must fit."""
    asked = [s for p, s in flat.get("patternProperties", {}).items() if re.search(p, name)]
    if name in flat.get("properties", {}):
        asked.insert(0, flat["properties"][name])
    if not asked:
        return flat.get("additionalProperties", True)
    return asked[0] if len(asked) == 1 else {"allOf": asked}
