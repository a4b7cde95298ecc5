"""Sets of ids of any size in little memory: SQLite's temporary databases spill to disk."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from llmengine.batch.lines import Entry


def key_of(entry: Entry) -> bytes:
    """What an entry is known by: its custom_id, or its line where it has none."""
    return line_key(entry.line) if entry.custom_id is None else id_key(entry.custom_id)


def id_key(custom_id: str) -> bytes:
    """The key of a custom_id; half a surrogate pair is valid JSON, so it has a key too."""
    return b"=" + custom_id.encode("utf-8", "surrogatepass")


def line_key(line: int) -> bytes:
    """The key of a line without an id, which no id can have."""
    return b"#%d" % line


def temporary() -> sqlite3.Connection:
    """A database without a name, in memory while it is small and gone with its connection."""
    rows = sqlite3.connect("", isolation_level=None)
    # Nothing in it outlives the process, so nothing is made safe.
    rows.execute("PRAGMA journal_mode = OFF")
    rows.execute("PRAGMA synchronous = OFF")
    return rows


class Ids:
    """Which keys were seen, and on which line first."""

    def __init__(self) -> None:
        self._rows = temporary()
        self._rows.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, line INT) WITHOUT ROWID")

    def add(self, key: bytes, line: int) -> int | None:
        """Remember the key; the line that had it before, if any."""
        added = self._rows.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line))
        if added.rowcount:
            return None
        row = self._rows.execute("SELECT line FROM seen WHERE key = ?", (key,)).fetchone()
        return int(row[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._rows.close()
