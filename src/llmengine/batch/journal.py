"""The output of a batch, which is also its journal: a request with a line in it is done."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llmengine.batch.format import id_key, key_of, line_key, read_entries, temporary_database
from llmengine.batch.jsonl import JSONLinesFile, json_object, repair
from llmengine.batch.request import EXTRA, START
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmengine.batch.format import BatchSource, Entry


_OK = 200


def read_batch(
    output: str | os.PathLike[str], source: BatchSource
) -> Iterator[dict[str, Any] | None]:
    """The output's line for each line of the source, in the source's order; None if missing.

    It needs little memory for any size. Raises ConfigError if the file is not a batch's output.
    """
    path = Path(output)
    with closing(temporary_database()) as index, path.open("rb") as file:
        index.execute("CREATE TABLE lines (key BLOB PRIMARY KEY, start INT) WITHOUT ROWID")
        for line in read_lines(path):
            index.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (line.key, line.start))
        for entry in read_entries(source):
            query = "SELECT start FROM lines WHERE key = ?"
            row = index.execute(query, (key_of(entry),)).fetchone()
            if row is not None:
                file.seek(row[0])
            yield None if row is None else json.loads(file.readline())


@dataclass(frozen=True, slots=True)
class OutputLine:
    """One line of an output: its key, whether it is an answer, and its bytes in the file."""

    key: bytes
    ok: bool
    start: int
    size: int


def repair_output(path: Path) -> None:
    """Remove a last line that a killed run did not finish; a complete one gets its newline.

    Raises ConfigError if the end of the file was not written by a batch.
    """
    if not repair(path, START):
        raise _not_an_output(path, "its last line")


def read_lines(path: Path) -> Iterator[OutputLine]:
    """Every line of a repaired output; raises ConfigError for a line that no batch has written."""
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            yield read_line(raw, start, path, f"line {number}")
            start += len(raw)


def read_line(raw: bytes, start: int, path: Path, place: str) -> OutputLine:
    """One line of an output.

    Raises ConfigError, which names the path and the place, for a line that no batch has written.
    """
    value = json_object(raw)
    if value is None or not {"custom_id", "response", "error"} <= value.keys():
        raise _not_an_output(path, place)
    key = _key(value)
    if key is None:
        raise _not_an_output(path, place)
    return OutputLine(key, _is_answer(value), start, len(raw))


def _key(value: dict[str, object]) -> bytes | None:
    custom_id, error = value["custom_id"], value["error"]
    if isinstance(custom_id, str):
        return id_key(custom_id)
    extra = error.get(EXTRA) if isinstance(error, dict) else None
    if isinstance(extra, dict) and isinstance(extra.get("line"), int):
        return line_key(extra["line"])
    return None


def _is_answer(value: dict[str, object]) -> bool:
    response = value["response"]
    answered = isinstance(response, dict) and response.get("status_code") == _OK
    return answered and value["error"] is None


def _not_an_output(path: Path, place: str) -> ConfigError:
    return ConfigError(
        f"{path}: {place} is not the output of a batch; "
        "give another output, or move this file out of the way"
    )


class Journal:
    """An output that is appended to, line by line; only one writer may use it at a time.

    A new line for an id replaces the old one: the file holds both until it is closed normally.
    Then a new file without the old lines is written and renamed to it. See `JSONLinesFile` for
    what a killed process or a power cut may lose.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self._replaced = 0
        self._file = JSONLinesFile(path, keep=keep)
        self._index = temporary_database()
        try:
            self._end = self._load()
        except BaseException:
            self._close()
            raise

    def ok(self, entry: Entry) -> bool | None:
        """Whether the entry was answered (True) or failed (False); None if it has no line yet."""
        return self._ok(key_of(entry))

    def was_invalid(self, entry: Entry) -> bool:
        """Whether the entry's line was not a valid request in an earlier run."""
        return self._ok(line_key(entry.line)) is not None

    def forget_invalid(self, entry: Entry) -> None:
        """Forget the error of a line that had no id, now that its entry has one."""
        self._forget(line_key(entry.line))

    def add(self, entry: Entry, record: bytes, *, ok: bool) -> None:
        """Append the entry's line."""
        self._append(OutputLine(key_of(entry), ok, self._end, len(record)), record)

    def add_lines(self, lines: Iterable[bytes], source: Path) -> None:
        """Append the lines of another journal of the same batch, and sync them to the disk.

        Raises ConfigError, which names the source and the line, for a line that no batch has
        written.
        """
        for number, record in enumerate(lines, start=1):
            self._append(read_line(record, self._end, source, f"line {number}"), record)
        self._file.sync()

    def sync(self) -> None:
        """Sync appended lines to the disk."""
        self._file.sync()

    def sync_if_due(self) -> None:
        """Sync appended lines to the disk, unless that was done within the last second."""
        self._file.sync_if_due()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            self._file.sync()
            # Not after an interrupt, which may have come between writing a line and indexing it.
            if self._replaced and kind is None:
                self._compact()
        finally:
            self._close()

    def _close(self) -> None:
        self._file.close()
        self._index.close()

    def _load(self) -> int:
        self._index.execute(
            "CREATE TABLE lines (key BLOB PRIMARY KEY, ok INT, start INT, size INT) WITHOUT ROWID"
        )
        repair_output(self._path)
        end = 0
        for line in read_lines(self._path):
            self._index_line(line)
            end = line.start + line.size
        return end

    def _append(self, line: OutputLine, record: bytes) -> None:
        self._file.append(record)
        self._index_line(line)
        self._end += len(record)

    def _ok(self, key: bytes) -> bool | None:
        row = self._index.execute("SELECT ok FROM lines WHERE key = ?", (key,)).fetchone()
        return None if row is None else bool(row[0])

    def _index_line(self, line: OutputLine) -> None:
        self._forget(line.key)
        row = (line.key, line.ok, line.start, line.size)
        self._index.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", row)

    def _forget(self, key: bytes) -> None:
        self._replaced += self._index.execute("DELETE FROM lines WHERE key = ?", (key,)).rowcount

    def _compact(self) -> None:
        """Write a new file with the last line of every key, and replace the old one atomically."""
        target = self._path.resolve()  # a symbolic link stays a link
        compacted = target.with_name(f"{target.name}.new")
        rows = self._index.execute("SELECT start, size FROM lines ORDER BY start")
        with target.open("rb") as old, compacted.open("wb") as new:
            for start, size in rows:
                old.seek(start)
                new.write(old.read(size))
            new.flush()
            os.fsync(new.fileno())
        shutil.copymode(target, compacted)
        compacted.replace(target)
