"""The input of a batch: its source, its lines and their ids.

The format is OpenAI's: ``{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
"body": {...}}``, which ``vllm run-batch`` and Together read too. A source is a file, or any
iterable of such requests.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from llmengine.types.errors import InvalidRequestError

LONGEST_ID = 64
# The routes of the format, each with the list that an answer of that route must have.
ROUTES = {
    "/v1/chat/completions": "choices",
    "/v1/completions": "choices",
    "/v1/embeddings": "data",
    "/v1/responses": "output",
}
BatchSource = str | os.PathLike[str] | Iterable[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One request; ``line`` is its line number in the input, from 1."""

    line: int
    custom_id: str
    url: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a valid request; ``custom_id`` is None if it has none."""

    line: int
    custom_id: str | None
    problem: str


Entry = BatchRequest | BadLine


def read_entry(raw: bytes | Mapping[str, object], line: int) -> Entry:
    """The entry in one line, or in a mapping with the content of a line.

    Raises InvalidRequestError for a ``custom_id`` that is too long. No batch service accepts it,
    and a shortened one could be the same as another.
    """
    try:
        value = _decoded(raw)
    except (ValueError, TypeError, RecursionError) as error:
        return BadLine(line, None, f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(line, None, "not a JSON object")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return BadLine(line, None, "custom_id is missing or is not a string")
    if len(custom_id) > LONGEST_ID:
        raise InvalidRequestError(
            f"line {line}: custom_id {custom_id!r} has {len(custom_id)} characters; "
            f"at most {LONGEST_ID} are allowed"
        )
    return _request(value, line, custom_id)


def _decoded(raw: bytes | Mapping[str, object]) -> object:
    if not isinstance(raw, bytes):
        raw = json.dumps(raw, allow_nan=False).encode()
    return json.loads(raw, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


def _request(value: dict[str, object], line: int, custom_id: str) -> Entry:
    method, url, body = value.get("method"), value.get("url"), value.get("body")
    if method != "POST":
        problem = f"method is {method!r}; a request is a 'POST'"
    elif not isinstance(url, str) or url not in ROUTES:
        problem = f"url is {url!r}; known are {', '.join(ROUTES)}"
    elif not isinstance(body, dict):
        problem = "body is missing or is not a JSON object"
    elif body.get("stream"):
        problem = "body.stream is set, but a batch cannot stream answers; leave it out"
    else:
        return BatchRequest(line, custom_id, url, body)
    return BadLine(line, custom_id, problem)


def read_entries(source: BatchSource) -> Iterator[Entry]:
    """The entries of the source, one by one; empty lines of a file are skipped.

    Raises InvalidRequestError, which names the file, for an id that is too long.
    """
    try:
        if isinstance(source, (str, os.PathLike)):
            yield from _entries_of_file(Path(source))
        else:
            for line, request in enumerate(source, start=1):
                yield read_entry(request, line)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{_name_of(source)}, {error}") from None


def read_unique_entries(source: BatchSource) -> Iterator[Entry]:
    """The entries of the source; raises InvalidRequestError at the first id that is used twice."""
    with _SeenKeys() as seen:
        for entry in read_entries(source):
            earlier = seen.add(key_of(entry), entry.line)
            if earlier is not None:
                raise InvalidRequestError(
                    f"{_name_of(source)}, line {entry.line}: custom_id {entry.custom_id!r} is "
                    f"already used by line {earlier}; every request needs its own"
                )
            yield entry


def path_of(source: BatchSource) -> Path | None:
    """The path of the source if it is a file, else None."""
    return Path(source) if isinstance(source, (str, os.PathLike)) else None


def _name_of(source: BatchSource) -> str:
    """The name of the source in messages."""
    path = path_of(source)
    return "the requests" if path is None else str(path)


def _entries_of_file(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if raw.strip():
                yield read_entry(raw, line)


def key_of(entry: Entry) -> bytes:
    """The key of an entry: from its custom_id, or from its line number if it has none."""
    return line_key(entry.line) if entry.custom_id is None else id_key(entry.custom_id)


def id_key(custom_id: str) -> bytes:
    """The key of a custom_id; a lone surrogate is valid in JSON, so it must have a key too."""
    return b"=" + custom_id.encode("utf-8", "surrogatepass")


def line_key(line: int) -> bytes:
    """The key of a line without an id; it differs from the key of every id."""
    return b"#%d" % line


class _SeenKeys:
    """The keys seen so far, with the line of each, in little memory for any number of keys."""

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INT) WITHOUT ROWID")

    def add(self, key: bytes, line: int) -> int | None:
        """Remember the key; return the line that had it before, if any."""
        added = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line))
        if added.rowcount:
            return None
        row = self._database.execute("SELECT line FROM seen WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._database.close()


def temporary_database() -> sqlite3.Connection:
    """A temporary SQLite database: in memory while it is small, deleted with its connection."""
    database = sqlite3.connect("", isolation_level=None)
    # Nothing in it outlives the process, so no journal is needed.
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    return database
