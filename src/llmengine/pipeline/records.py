"""The records of a run, and how far each of them has come."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmengine.pipeline.step import STEPS
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Record:
    """One input: its id, unique in a run, and its fields, the id among them."""

    id: str
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Progress:
    """What a record has by now: the answers of steps by their id, or the error that ended it."""

    record: Record
    outputs: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


def to_records(items: Iterable[Mapping[str, Any]], source: str = "inputs") -> list[Record]:
    """Records from mappings; the id is the field ``id``, or the place in the list from 1 on.

    Raises ConfigError that names `source` and the place.
    """
    records: dict[str, Record] = {}
    for place, item in enumerate(items, start=1):
        record = _record(item, place, f"{source}: record {place}")
        if record.id in records:
            msg = f"{source}: record {place}: id: {record.id!r} is taken by an earlier record"
            raise ConfigError(msg)
        records[record.id] = record
    if not records:
        msg = f"{source}: there are no records; give at least one"
        raise ConfigError(msg)
    return list(records.values())


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file with one JSON object a line; empty lines are passed over.

    Raises ConfigError that names the file and the line.
    """
    return to_records((fields for _, fields in read_objects(path)), str(path))


def read_objects(path: str | os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of such a file, each with the file and line that messages name it by."""
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}; give a file of JSON lines"
        raise ConfigError(msg) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path}: line {number}"
            yield where, _parse(line, where)


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        msg = f"{where}: is no JSON: {error}"
        raise ConfigError(msg) from error
    if not isinstance(value, dict):
        msg = f"{where}: is no JSON object; write one a line"
        raise ConfigError(msg)
    return value


def _record(item: Any, place: int, where: str) -> Record:
    if not isinstance(item, dict):
        msg = f"{where}: is no mapping of field names to values"
        raise ConfigError(msg)
    given = item.get("id", place)
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        msg = f"{where}: id: {given!r} is no string and no whole number"
        raise ConfigError(msg)
    if STEPS in item:
        msg = f"{where}: {STEPS}: is the name of earlier steps' answers in templates; rename it"
        raise ConfigError(msg)
    return Record(str(given), {"id": given, **item})
