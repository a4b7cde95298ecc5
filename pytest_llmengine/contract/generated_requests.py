"""Generated requests: valid and broken bodies for OpenAI's operations, the same for each seed.

They are cheap: an answer has few tokens, nothing is stored, and no address is named that a server
could fetch.
"""

from __future__ import annotations

import copy
import random
from collections import ChainMap
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmengine.mock import specification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_llmengine.contract.samples import JSON

T = TypeVar("T")

_TEXTS = ("", "Say hello.", "a", "\0", "Grüße 漢字 🦊", "user", "auto", "x" * 300, '{"a": 1}', "-1")
_WRONG: Sequence[object] = (
    *(None, True, 0, -1, 1.5, 10**30, "", "something_else", "\0", "9" * 400),
    *([], {}, [None], [[[[[[]]]]]], {"": {}}, {"type": "something_else"}, ["x"] * 20),
)
_CAPS: Mapping[str, JSON] = {
    "/chat/completions": {"max_tokens": 2},
    "/completions": {"max_tokens": 2},
    "/responses": {"max_output_tokens": 16, "store": False},
}
_MOST = {"n": 2, "best_of": 2, "dimensions": 8}
_DEEP = 5  # a body is not nested more deeply than its required fields are


def generated_bodies(path: str, model: str, *, seed: int, count: int) -> Iterator[JSON]:
    """So many bodies for POST to this path; every second one is broken in one or two places."""
    generator = _Generator(f"{path} {seed}")
    schema = specification.request_schema(f"POST {path}")
    for number in range(count):
        body = generator.value(schema)
        for _ in range(number % 2 * (1 + number // 2 % 2)):
            generator.corrupt(body)
        yield cheap(body, path, model)


def cheap(body: JSON, path: str, model: str) -> JSON:
    """The body with the model of the server, and without what makes an answer expensive."""
    kept = {key: v for key, v in body.items() if key not in {"background", "max_completion_tokens"}}
    for key, most in _MOST.items():
        if isinstance(kept.get(key), int) and kept[key] > most:
            kept[key] = most
    return kept | _CAPS.get(path, {}) | {"model": model}


def _own(schema: Mapping[str, Any]) -> JSON:
    """The schema of an object without those that it includes."""
    return {"type": "object"} | {key: v for key, v in schema.items() if key != "allOf"}


class _Generator:
    """Draws values of JSON schemas; the same seed gives the same values in every Python."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - not a secret  # nosec B311

    def _pick(self, values: Sequence[T]) -> T:
        # The other functions of `random` may draw other values in another version of Python.
        return values[int(self._random.random() * len(values))]

    def value(self, schema: Mapping[str, Any], depth: int = 0) -> Any:
        """A value that fits the schema, apart from formats and patterns."""
        schema = cast("JSON", specification.resolved(dict(schema)))
        if "enum" in schema:
            return self._pick(schema["enum"])
        if "anyOf" in schema:
            return self.value(self._pick(schema["anyOf"]), depth)
        if "allOf" in schema:
            parts = (self.value(part, depth) for part in (*schema["allOf"], _own(schema)))
            return dict(ChainMap(*reversed([part for part in parts if part])))
        kind = schema.get("type", "object" if "properties" in schema else "string")
        return self._makers()[kind if isinstance(kind, str) else self._pick(kind)](schema, depth)

    def _makers(self) -> dict[str, Callable[[Mapping[str, Any], int], Any]]:
        return {
            "object": self._object,
            "array": self._array,
            "string": lambda *_: self._pick(_TEXTS),
            "integer": lambda schema, _: int(self._number(schema)),
            "number": lambda schema, _: self._number(schema),
            "boolean": lambda *_: self._pick((True, False)),
            "null": lambda *_: None,
        }

    def _object(self, schema: Mapping[str, Any], depth: int) -> JSON:
        required, likely = schema.get("required", ()), 0.3 if depth else 0.1
        return {
            name: self.value(inner, depth + 1)
            for name, inner in schema.get("properties", {}).items()
            if name in required or (depth < _DEEP and self._random.random() < likely)
        }

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        few = schema.get("minItems", 0)
        size = few if depth >= _DEEP else few + self._pick((0, 1, 1, 2))
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(size)]

    def _number(self, schema: Mapping[str, Any]) -> float:
        low: float = schema.get("minimum", 0)
        high: float = schema.get("maximum", low + 3)
        return self._pick((low, high, low + 1))

    def corrupt(self, value: Any) -> None:
        """Replace one value in a body by a wrong one, or leave it out."""
        while isinstance(value, (dict, list)) and value:
            key = self._pick(list(value) if isinstance(value, dict) else range(len(value)))
            inner = value[key]
            if not isinstance(inner, (dict, list)) or not inner or self._random.random() < 1 / 3:
                if self._random.random() < 1 / 4:
                    del value[key]
                else:
                    value[key] = copy.deepcopy(self._pick(_WRONG))
                return
            value = inner


def smallest(body: JSON, still_fails: Callable[[JSON], bool], *, tries: int = 40) -> JSON:
    """The body without the parts that a failure does not need, after so many tries."""
    left = tries

    def fails(candidate: JSON) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and still_fails(candidate)

    shrunk = True
    while shrunk:
        shrunk = False
        for path in _places(body):
            candidate = _without(body, path)
            if fails(candidate):
                body, shrunk = candidate, True
                break
    return body


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a body, the largest parts first."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    yield from ((*path, key) for key in keys)
    for key in keys:
        yield from _places(value[key], (*path, key))


def _without(body: JSON, path: tuple[Any, ...]) -> JSON:
    copied = copy.deepcopy(body)
    holder: Any = copied
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return copied
