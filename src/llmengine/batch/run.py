"""Runs a file of requests through one engine or several, and picks up where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.asking import Asker
from llmengine.batch.balance import Balancer, Endpoint
from llmengine.batch.flight import ask_all
from llmengine.batch.journal import Journal
from llmengine.batch.lines import BadLine
from llmengine.batch.lock import sole_writer
from llmengine.batch.records import answer_record, bad_line_record
from llmengine.batch.report import BatchReport, Tally
from llmengine.batch.source import checked, path_of, read_entries
from llmengine.engine.engine import Engine
from llmengine.transport.background import background
from llmengine.values.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from llmengine.batch.asking import Answer
    from llmengine.batch.lines import BatchRequest, Entry
    from llmengine.batch.report import Progress
    from llmengine.batch.source import Source


def run_batch(  # noqa: PLR0913 - one batch's settings
    source: Source,
    output: str | os.PathLike[str],
    engines: Engine | Sequence[Engine],
    *,
    resume: bool = True,
    only_failed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BatchReport:
    """Ask every request of the source and append its line to the output as the answer comes.

    The source is a file in OpenAI's batch format, or any iterable of such lines as mappings. The
    engines are clients of one model; each request goes to the least loaded of them. Lines come
    in the order of the answers: `read_batch` gives them in the order of the source.

    With ``resume``, what the output holds already is not asked again; without, the output starts
    empty. ``only_failed`` asks only what the output holds as failed. ``on_progress`` is called
    in this thread, after each line and once a second.

    Raises InvalidRequestError for a ``custom_id`` that is taken or too long, and ConfigError for
    an output that is not a batch's or is being written by another run.
    """
    fleet = [engines] if isinstance(engines, Engine) else list(engines)
    path = Path(output)
    _check(source, path, fleet, resume=resume, only_failed=only_failed)
    length = _length(source)
    endpoints = [Endpoint(engine, background()) for engine in fleet]
    tally = Tally(length)
    with sole_writer(path), Journal(path, keep=resume) as journal:
        entries = _selected(source, journal, tally, only_failed=only_failed)
        _run(entries, endpoints, journal, tally, on_progress or _no_progress)
        tally.complete()
    return BatchReport(path, tally.progress(), tuple(tally.errors))


def _check(
    source: Source, output: Path, engines: Sequence[Engine], *, resume: bool, only_failed: bool
) -> None:
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


def _length(source: Source) -> int | None:
    """The number of lines, all of them checked; None for a source that can be read only once."""
    if path_of(source) is None and not isinstance(source, Sequence):
        return None
    return sum(1 for _ in checked(source, read_entries(source)))


def _selected(
    source: Source, journal: Journal, tally: Tally, *, only_failed: bool
) -> Iterator[BatchRequest | None]:
    """The requests to ask; None for each other line, which is counted and recorded here."""
    for entry in checked(source, read_entries(source)):
        ok = journal.ok(entry)
        wanted = ok is None
        if only_failed:
            wanted = ok is False or (ok is None and journal.was_bad(entry))
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


def _run(
    requests: Iterator[BatchRequest | None],
    endpoints: Sequence[Endpoint],
    journal: Journal,
    tally: Tally,
    on_progress: Callable[[Progress], None],
) -> None:
    engines = [endpoint.engine for endpoint in endpoints]
    asker = Asker(Balancer(endpoints), engines)
    window = sum(engine.config.max_concurrency for engine in engines)

    def start(request: BatchRequest) -> Future[Answer]:
        return background().submit(asker.ask(request))

    with closing(ask_all(requests, start, window)) as landed:
        for item in landed:
            if item is None:
                journal.sync()
            else:
                request, answer = item
                journal.add(request, answer_record(request, answer), ok=answer.error is None)
                tally.asked(request, answer)
            on_progress(tally.progress(tuple(e.engine.name for e in endpoints if e.out)))


def _no_progress(_progress: Progress) -> None:
    """Nobody watches."""
