"""The faults and replies that users give to ``llmengine mock serve``."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from llmengine.mock.behaviour import Fault
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


_WORDS = {"true": True, "false": False}


def parse_fault(text: str) -> Fault | None:
    """The fault in a text such as ``status=503,retry_after=1``; ``none`` is a call without a fault.

    A name without a value means true, as in ``malformed_json``. Several split positions are joined
    by ``+``, as in ``split_at=3+7``. Raises ConfigError that names the field.
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
        raise ConfigError(
            f"--fault: unknown fault {name!r}; the faults are {', '.join(kinds)}, none"
        )
    try:
        return _convert(kinds[name], text)
    except (KeyError, ValueError):
        raise ConfigError(
            f"--fault: {name}={text} is not a value of {name}, which is {kinds[name]}"
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


def read_replies(path: Path) -> list[str | dict[str, Any]]:
    """One reply per line, each a JSON string or a JSON object (the assistant's message).

    Raises ConfigError that names the file and the line.
    """
    lines = path.read_text("utf-8").splitlines()
    return [_reply(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def _reply(line: str, where: str) -> str | dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}; write one reply per line") from error
    if not isinstance(value, str | dict):
        raise ConfigError(f"{where}: a reply is a JSON string or object, not {line.strip()}")
    return value
