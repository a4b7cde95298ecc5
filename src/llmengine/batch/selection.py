"""Which lines of a batch a run has to ask, by what its output holds already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmengine.batch.lines import BadLine
from llmengine.batch.records import bad_line_record
from llmengine.batch.source import checked, path_of, read_entries
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from llmengine.batch.journal import Journal
    from llmengine.batch.lines import BatchRequest, Entry
    from llmengine.batch.report import Tally
    from llmengine.batch.source import Source


def check_run(
    source: Source, output: Path, engines: Sequence[object], *, resume: bool, only_failed: bool
) -> None:
    """Raise ConfigError for settings that do not go together."""
    if not engines:
        raise ConfigError("a batch needs at least one engine")
    file = path_of(source)
    if file is not None and file.exists() and output.exists() and file.samefile(output):
        raise ConfigError(f"{output}: the output would be written over the input; give another")
    if output.exists() and not output.is_file():
        raise ConfigError(f"{output}: the output of a batch is a file; this is none")
    if only_failed and not resume:
        raise ConfigError("only_failed goes on with an output; it cannot start without resume")
    if only_failed and not output.exists():
        raise ConfigError(f"{output}: there is no such output whose failures could be asked again")


def length_of(source: Source) -> int | None:
    """The number of lines, all of them checked; None for a source that can be read only once."""
    if path_of(source) is None and not isinstance(source, Sequence):
        return None
    return sum(1 for _ in checked(source, read_entries(source)))


def selected(
    source: Source, journal: Journal, tally: Tally, *, only_failed: bool
) -> Iterator[BatchRequest | None]:
    """The requests to ask; None for each other line, which is counted and recorded here."""
    for entry in checked(source, read_entries(source)):
        ok = journal.ok(entry)
        wanted = ok is None
        if only_failed:
            wanted = ok is False or (ok is None and journal.was_bad(entry))
        if wanted and entry.custom_id is not None:
            journal.mended(entry)
        if wanted and not isinstance(entry, BadLine):
            yield entry
            continue
        _settle(entry, journal, tally, ok=ok, wanted=wanted)
        yield None


def _settle(entry: Entry, journal: Journal, tally: Tally, *, ok: bool | None, wanted: bool) -> None:
    if wanted and isinstance(entry, BadLine):
        journal.add(entry, bad_line_record(entry), ok=False)
        tally.bad(entry)
    elif ok is None:
        tally.unasked()
    else:
        tally.earlier(ok=ok)
