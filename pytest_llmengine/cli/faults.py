"""Reads faults as they are written on the command line: ``status=503,retry_after=1``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from llmengine.mock.behaviour import Fault
from llmengine.types.errors import ConfigError

_WORDS = {"true": True, "false": False}


def parse_fault(text: str) -> Fault | None:
    """The fault that the text describes; ``none`` is a call without a fault.

    A name alone means true, as in ``malformed_json``. Several split positions are joined by
    ``+``, as in ``split_at=3+7``. Raises ConfigError that names the field.
    """
    if text == "none":
        return None
    values = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        values[name.strip()] = _value(name.strip(), value.strip() or "true")
    return Fault(**values)


def _value(name: str, text: str) -> Any:
    kinds = {field.name: str(field.type) for field in fields(Fault)}
    if name not in kinds:
        raise ConfigError(f"--fault: unknown fault {name!r}; known are {', '.join(kinds)}, none")
    try:
        return _convert(kinds[name], text)
    except (KeyError, ValueError):
        raise ConfigError(
            f"--fault: {name}={text} is no value of {name}, which is {kinds[name]}"
        ) from None


def _convert(kind: str, text: str) -> Any:
    if kind.startswith("bool"):
        return _WORDS[text]
    if kind.startswith("str"):
        return text
    if kind.startswith("float"):
        return float(text)
    if "tuple" in kind and "+" in text:
        return tuple(int(part) for part in text.split("+"))
    return int(text)
