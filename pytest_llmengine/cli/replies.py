"""Reads the replies that a mock server is to give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def read_replies(path: Path) -> list[str | dict[str, Any]]:
    """One reply a line, each a JSON string or a JSON object (the assistant's message).

    Raises ConfigError that names the file and the line.
    """
    lines = path.read_text("utf-8").splitlines()
    return [_reply(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def _reply(line: str, where: str) -> str | dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}; write one reply a line") from error
    if not isinstance(value, str | dict):
        raise ConfigError(f"{where}: a reply is a JSON string or object, not {line.strip()}")
    return value
