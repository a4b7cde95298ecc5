"""Runs a file of requests through one engine or several, and picks up where it was stopped."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.asking import Asker
from llmengine.batch.balance import Balancer, Endpoint
from llmengine.batch.flight import ask_all
from llmengine.batch.journal import Journal
from llmengine.batch.lock import sole_writer
from llmengine.batch.records import answer_record
from llmengine.batch.report import BatchReport, Tally
from llmengine.batch.selection import check_run, length_of, selected
from llmengine.engine.engine import Engine
from llmengine.transport.loop import background

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from llmengine.batch.asking import Answer
    from llmengine.batch.lines import BatchRequest
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
    check_run(source, path, fleet, resume=resume, only_failed=only_failed)
    length = length_of(source)
    endpoints = [Endpoint(engine, background()) for engine in fleet]
    tally = Tally(length)
    with sole_writer(path), Journal(path, keep=resume) as journal:
        requests = selected(source, journal, tally, only_failed=only_failed)
        answer_all(requests, endpoints, journal, tally, on_progress or no_progress)
        tally.complete()
    return BatchReport(path, tally.progress(), tuple(tally.errors))


def answer_all(
    requests: Iterable[BatchRequest | None],
    endpoints: Sequence[Endpoint],
    journal: Journal,
    tally: Tally,
    on_progress: Callable[[Progress], None],
) -> None:
    """Ask the requests and append each line to the journal as its answer comes."""
    engines = [endpoint.engine for endpoint in endpoints]
    asker = Asker(Balancer(endpoints), engines)
    window = sum(engine.concurrency for engine in engines)

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
            resting = tuple(e.engine.name for e in endpoints if e.out)
            pauses = {e.engine.name: left for e in endpoints if (left := e.pause)}
            on_progress(tally.progress(resting, pauses))


def no_progress(_progress: Progress) -> None:
    """Nobody watches."""
