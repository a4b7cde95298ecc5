"""Reads the output of an earlier run: what it answered, and where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.batch.ids import id_key, line_key
from llmengine.batch.records import EXTRA, START
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedRandom
    from pathlib import Path

_BLOCK = 2**16
_OK = 200


@dataclass(frozen=True, slots=True)
class Found:
    """One line of an output: whose it is, whether it is an answer, and which bytes it has."""

    key: bytes
    ok: bool
    start: int
    size: int


def mend(path: Path) -> None:
    """Cut off the line that a killed run did not finish; a whole one gets its newline.

    Raises ConfigError if the file ends in what no batch has written.
    """
    with path.open("r+b") as file:
        start = _start_of_tail(file)
        file.seek(start)
        tail = file.read()
        if _object(tail) is not None:
            file.write(b"\n")
        elif tail.startswith(START) or START.startswith(tail):
            file.truncate(start)
        else:
            raise ConfigError(_foreign(path, "its last line"))


def scan(path: Path) -> Iterator[Found]:
    """Every line of a mended output; raises ConfigError for a line that is none."""
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            yield read_line(raw, start, path, f"line {number}")
            start += len(raw)


def read_line(raw: bytes, start: int, path: Path, where: str) -> Found:
    """What one line of an output says; raises ConfigError that names path and place if nothing."""
    value = _object(raw)
    if value is None or not {"custom_id", "response", "error"} <= value.keys():
        raise ConfigError(_foreign(path, where))
    key = _key(value)
    if key is None:
        raise ConfigError(_foreign(path, where))
    return Found(key, _is_answer(value), start, len(raw))


def _start_of_tail(file: BufferedRandom) -> int:
    end = file.seek(0, 2)
    while end > 0:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _key(value: dict[str, Any]) -> bytes | None:
    custom_id, error = value["custom_id"], value["error"]
    if isinstance(custom_id, str):
        return id_key(custom_id)
    extra = error.get(EXTRA) if isinstance(error, dict) else None
    if isinstance(extra, dict) and isinstance(extra.get("line"), int):
        return line_key(extra["line"])
    return None


def _is_answer(value: dict[str, Any]) -> bool:
    response = value["response"]
    answered = isinstance(response, dict) and response.get("status_code") == _OK
    return answered and value["error"] is None


def _foreign(path: Path, where: str) -> str:
    return (
        f"{path}: {where} is not the output of a batch; "
        "give another output, or move this file out of the way"
    )
