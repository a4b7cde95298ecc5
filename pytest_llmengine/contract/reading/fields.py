"""Fields of a JSON body: one that is missing or of the wrong type fails the check in words."""

from __future__ import annotations

from typing import Any, TypeVar

from pytest_llmengine.contract.outcomes import fail
from pytest_llmengine.contract.quote import quote

T = TypeVar("T")

_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
}


def pick(value: object, kind: type[T], *path: str | int) -> T:
    """The value at a path, such as ``pick(body, str, "choices", 0, "message", "role")``.

    A boolean is no number; an integer is a float.
    """
    for depth, step in enumerate(path):
        value = _step(value, step, _spell(path[: depth + 1]))
    if not _is(value, kind):
        fail(f"{_spell(path)} is not {_NAMES[kind]}: {quote(value)}")
    return value  # type: ignore[return-value] # _is has looked


def objects(value: object, *path: str | int) -> list[dict[str, Any]]:
    """The list of objects at a path."""
    return [pick(item, dict) for item in pick(value, list, *path)]


def missing(value: dict[str, Any], *keys: str) -> list[str]:
    """The keys that the object does not have, whatever their value."""
    return [key for key in keys if key not in value]


def _step(value: object, step: str | int, where: str) -> object:
    if isinstance(step, int):
        if not isinstance(value, list) or len(value) <= step:
            fail(f"{where} is missing: {quote(value)}")
        return value[step]
    if not isinstance(value, dict) or step not in value:
        fail(f"{where} is missing: {quote(value)}")
    return value[step]


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _spell(path: tuple[str | int, ...]) -> str:
    spelled = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)
    return spelled.lstrip(".") or "the value"
