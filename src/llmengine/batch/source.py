"""The input of a batch: a file, or any iterable of requests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmengine.batch.ids import Ids, key_of
from llmengine.batch.lines import Entry, read_entry
from llmengine.types.errors import InvalidRequestError

Source = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


def read_entries(source: Source) -> Iterator[Entry]:
    """The entries of the source, one by one; empty lines of a file are passed over.

    Raises InvalidRequestError, naming the file, for an id that is too long.
    """
    path = path_of(source)
    try:
        if path is not None:
            yield from _entries_of_file(path)
        else:
            for line, request in enumerate(source, start=1):  # type: ignore[arg-type]  # no path
                yield read_entry(request, line)  # type: ignore[arg-type]  # no path
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{name_of(source)}, {error}") from None


def checked(source: Source, entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same entries; raises InvalidRequestError at the first id that was there before."""
    with Ids() as seen:
        for entry in entries:
            earlier = seen.add(key_of(entry), entry.line)
            if earlier is not None:
                raise InvalidRequestError(
                    f"{name_of(source)}, line {entry.line}: custom_id {entry.custom_id!r} is taken "
                    f"by line {earlier}; every request needs its own"
                )
            yield entry


def path_of(source: Source) -> Path | None:
    """The file that the source is, if it is one."""
    return Path(source) if isinstance(source, (str, os.PathLike)) else None


def name_of(source: Source) -> str:
    """What to call the source in a message."""
    path = path_of(source)
    return "the requests" if path is None else str(path)


def _entries_of_file(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            if raw.strip():
                yield read_entry(raw, line)
