"""The output of a batch, which is its journal too: what it holds is done, all else is not."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Self

from llmengine.batch.ids import key_of, line_key, temporary
from llmengine.batch.scan import Found, mend, read_line, scan

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from llmengine.batch.lines import Entry

SYNC_SECONDS = 1.0


class Journal:
    """An output that is appended to, line by line; one writer at a time.

    A line is with the system before `add` returns, so a killed process loses none; it is on the
    disk within a second of writing, so a power cut loses at most that. A line for an id that has
    one already takes its place: the file holds both until it is closed in order, and is then
    written anew beside itself and renamed.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self._path = path
        self._replaced = 0
        self._synced_at = time.monotonic()
        self._dirty = False
        fresh = os.O_TRUNC if not keep else 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | fresh, 0o666)
        self._index = temporary()
        try:
            self._end = self._load()
        except BaseException:
            self._close()
            raise

    def ok(self, entry: Entry) -> bool | None:
        """Whether the entry was answered (True) or has failed (False); None: it is not here."""
        return self._ok(key_of(entry))

    def was_bad(self, entry: Entry) -> bool:
        """Whether the entry's line was not even a request in an earlier run."""
        return self._ok(line_key(entry.line)) is not None

    def mended(self, entry: Entry) -> None:
        """Forget what was wrong with the line of an entry that has an id now."""
        self._forget(line_key(entry.line))

    def add(self, entry: Entry, record: bytes, *, ok: bool) -> None:
        """Append the entry's line."""
        self._append(Found(key_of(entry), ok, self._end, len(record)), record)

    def take(self, lines: Iterable[bytes], source: Path) -> None:
        """Append the lines of another journal of the same batch, and have them on the disk.

        Raises ConfigError that names the source and the line if one is none.
        """
        for number, record in enumerate(lines, start=1):
            self._append(read_line(record, self._end, source, f"line {number}"), record)
        self._sync()

    def sync(self) -> None:
        """Have what was appended on the disk, unless that was done within the last second."""
        if self._dirty and time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self._sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        try:
            self._sync()
            # An interrupt may have come between writing a line and noting it.
            if self._replaced and kind is None:
                self._compact()
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._index.close()

    def _load(self) -> int:
        self._index.execute(
            "CREATE TABLE lines (key BLOB PRIMARY KEY, ok INT, start INT, size INT) WITHOUT ROWID"
        )
        mend(self._path)
        end = 0
        for found in scan(self._path):
            self._note(found)
            end = found.start + found.size
        return end

    def _append(self, found: Found, record: bytes) -> None:
        self._write(record)
        self._note(found)
        self._end += len(record)
        self._dirty = True
        self.sync()

    def _ok(self, key: bytes) -> bool | None:
        row = self._index.execute("SELECT ok FROM lines WHERE key = ?", (key,)).fetchone()
        return None if row is None else bool(row[0])

    def _note(self, found: Found) -> None:
        self._forget(found.key)
        row = (found.key, found.ok, found.start, found.size)
        self._index.execute("INSERT INTO lines VALUES (?, ?, ?, ?)", row)

    def _forget(self, key: bytes) -> None:
        self._replaced += self._index.execute("DELETE FROM lines WHERE key = ?", (key,)).rowcount

    def _write(self, record: bytes) -> None:
        left = memoryview(record)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            error.filename = str(self._path)
            raise

    def _sync(self) -> None:
        os.fsync(self._fd)
        self._synced_at = time.monotonic()
        self._dirty = False

    def _compact(self) -> None:
        """Write the file anew with the last line of every key, and put it in place at once."""
        place = self._path.resolve()  # a link stays one
        beside = place.with_name(f"{place.name}.new")
        rows = self._index.execute("SELECT start, size FROM lines ORDER BY start")
        with place.open("rb") as old, beside.open("wb") as new:
            for start, size in rows:
                old.seek(start)
                new.write(old.read(size))
            new.flush()
            os.fsync(new.fileno())
        shutil.copymode(place, beside)
        beside.replace(place)
