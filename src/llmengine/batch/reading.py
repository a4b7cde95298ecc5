"""Reads the output of a batch back, in the order of its input."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmengine.batch.ids import key_of, temporary
from llmengine.batch.scan import scan
from llmengine.batch.source import read_entries

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from llmengine.batch.source import Source


def read_batch(output: str | os.PathLike[str], source: Source) -> Iterator[dict[str, Any] | None]:
    """The output's line for every line of the source, in its order; None where there is none yet.

    Needs little memory for any size. Raises ConfigError if the file is not a batch's output.
    """
    path = Path(output)
    with closing(temporary()) as index, path.open("rb") as file:
        index.execute("CREATE TABLE lines (key BLOB PRIMARY KEY, start INT) WITHOUT ROWID")
        for found in scan(path):
            index.execute("INSERT OR REPLACE INTO lines VALUES (?, ?)", (found.key, found.start))
        for entry in read_entries(source):
            where = "SELECT start FROM lines WHERE key = ?"
            row = index.execute(where, (key_of(entry),)).fetchone()
            if row is not None:
                file.seek(row[0])
            yield None if row is None else json.loads(file.readline())
