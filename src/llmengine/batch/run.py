"""Run a file of requests through one or more engines, or continue a run that was stopped.

The lines to ask are chosen by what the output already holds. A limited number of requests is under
way at once; answers are written in the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from llmengine.batch.balancer import Balancer, Endpoint
from llmengine.batch.format import BadLine, checked, path_of, read_entries
from llmengine.batch.journal import Journal
from llmengine.batch.jsonl import sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.request import BatchSender, answer_record, bad_line_record
from llmengine.engine.engine import Engine
from llmengine.transport.loop import background
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future

    from llmengine.batch.format import BatchRequest, BatchSource, Entry
    from llmengine.batch.report import Progress
    from llmengine.batch.request import BatchAnswer

    Start = Callable[[BatchRequest], Future[BatchAnswer]]
    Landed = tuple[BatchRequest, BatchAnswer]


def check_run(
    source: BatchSource, output: Path, engines: Sequence[object], *, resume: bool, only_failed: bool
) -> None:
    """Raise ConfigError for settings that contradict each other."""
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


def length_of(source: BatchSource) -> int | None:
    """The number of lines, which are all checked; None if the source can be read only once."""
    if path_of(source) is None and not isinstance(source, Sequence):
        return None
    return sum(1 for _ in checked(source, read_entries(source)))


def selected(
    source: BatchSource, journal: Journal, tally: BatchCounter, *, only_failed: bool
) -> Iterator[BatchRequest | None]:
    """The requests to ask; for each other line None, after it was counted and recorded here."""
    for entry in checked(source, read_entries(source)):
        ok = journal.ok(entry)
        wanted = ok is None
        if only_failed:
            wanted = ok is False or (ok is None and journal.was_invalid(entry))
        if wanted and entry.custom_id is not None:
            journal.forget_invalid(entry)
        if wanted and not isinstance(entry, BadLine):
            yield entry
            continue
        _settle(entry, journal, tally, ok=ok, wanted=wanted)
        yield None


def _settle(
    entry: Entry, journal: Journal, tally: BatchCounter, *, ok: bool | None, wanted: bool
) -> None:
    if wanted and isinstance(entry, BadLine):
        journal.add(entry, bad_line_record(entry), ok=False)
        tally.bad(entry)
    elif ok is None:
        tally.unasked()
    else:
        tally.earlier(ok=ok)


# How many seconds to wait for an answer before the caller may do something else.
_TURN = 1.0


def ask_all(
    requests: Iterable[BatchRequest | None], start: Start, window: int
) -> Generator[Landed | None, None, None]:
    """Each request with its answer, as soon as it arrives; None if none arrived for a second.

    The requests are drawn in the caller's own thread, only while fewer than `window` are under
    way; a None among them is skipped. If drawing a request raises, the requests that are under
    way are still finished and yielded. Closing the generator cancels them.
    """
    flight = _Flight(start)
    try:
        try:
            for request in requests:
                if request is not None:
                    flight.launch(request)
                while flight.has_landed or flight.size >= window:
                    yield flight.next()
        except Exception:
            # Raised again below. Requests under way are paid for: their answers come first.
            while flight.size:
                yield flight.next()
            raise
        while flight.size:
            yield flight.next()
    finally:
        flight.cancel()


class _Flight:
    def __init__(self, start: Start) -> None:
        self._start = start
        self._flying: dict[Future[BatchAnswer], BatchRequest] = {}
        self._landed: SimpleQueue[Future[BatchAnswer]] = SimpleQueue()

    @property
    def size(self) -> int:
        return len(self._flying)

    @property
    def has_landed(self) -> bool:
        return not self._landed.empty()

    def launch(self, request: BatchRequest) -> None:
        future = self._start(request)
        self._flying[future] = request
        future.add_done_callback(self._landed.put)

    def next(self) -> Landed | None:
        try:
            future = self._landed.get(timeout=_TURN)
        except Empty:
            return None
        return self._flying.pop(future), future.result()

    def cancel(self) -> None:
        for future in self._flying:
            future.cancel()


def run_batch(  # noqa: PLR0913 - the settings of a batch
    source: BatchSource,
    output: str | os.PathLike[str],
    engines: Engine | Sequence[Engine],
    *,
    resume: bool = True,
    only_failed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BatchReport:
    """Ask every request of the source and append a line to the output as each answer arrives.

    The source is a file in OpenAI's batch format, or any iterable of such lines as mappings. The
    engines are clients of one model; each request goes to the least loaded of them. The output
    lines are in the order of the answers; `read_batch` returns them in the order of the source.

    With ``resume``, requests that have a line in the output are not asked again; without it, the
    output starts empty. With ``only_failed``, only requests that failed in the output are asked.
    ``on_progress`` is called in this thread, after each line and once per second.

    Raises InvalidRequestError for a ``custom_id`` that is used twice or too long, and ConfigError
    for an output that was not written by a batch or that another run is writing.
    """
    fleet = [engines] if isinstance(engines, Engine) else list(engines)
    path = Path(output)
    check_run(source, path, fleet, resume=resume, only_failed=only_failed)
    length = length_of(source)
    endpoints = [Endpoint(engine, background()) for engine in fleet]
    tally = BatchCounter(length)
    with sole_writer(path), Journal(path, keep=resume) as journal:
        requests = selected(source, journal, tally, only_failed=only_failed)
        answer_all(requests, endpoints, journal, tally, on_progress or no_progress)
        tally.complete()
    return BatchReport(path, tally.progress(), tuple(tally.errors))


def answer_all(
    requests: Iterable[BatchRequest | None],
    endpoints: Sequence[Endpoint],
    journal: Journal,
    tally: BatchCounter,
    on_progress: Callable[[Progress], None],
) -> None:
    """Ask the requests and append a line to the journal as each answer arrives."""
    engines = [endpoint.engine for endpoint in endpoints]
    asker = BatchSender(Balancer(endpoints), engines)
    window = sum(engine.concurrency for engine in engines)

    def start(request: BatchRequest) -> Future[BatchAnswer]:
        return background().submit(asker.ask(request))

    with closing(ask_all(requests, start, window)) as landed:
        for item in landed:
            if item is None:
                journal.sync_if_due()
            else:
                request, answer = item
                journal.add(request, answer_record(request, answer), ok=answer.error is None)
                tally.asked(request, answer)
            resting = tuple(e.engine.name for e in endpoints if e.out)
            pauses = {e.engine.name: left for e in endpoints if (left := e.pause)}
            on_progress(tally.progress(resting, pauses))


def no_progress(_progress: Progress) -> None:
    """Ignore progress, when no callback was given."""
