"""Run a file of requests through one or more engines, or continue a run that was stopped.

Only requests that have no line in the output yet are sent. A limited number of requests is under
way at once. Answers are written in the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.balancer import Endpoint
from llmengine.batch.format import BadLine, path_of, read_unique_entries
from llmengine.batch.hosted_state import refuse_under_way
from llmengine.batch.journal import Journal
from llmengine.batch.jsonl import sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.request import (
    BatchSender,
    FallbackSender,
    answer_record,
    bad_line_record,
)
from llmengine.engine.engine import Engine
from llmengine.engine.fallback import FallbackEngine
from llmengine.engine.job_queue import JobQueue
from llmengine.engine.sync import ThreadWakeup, run
from llmengine.transport.loop import background
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Iterator

    from llmengine.batch.format import BatchRequest, BatchSource
    from llmengine.batch.report import Progress
    from llmengine.batch.request import BatchAnswer

    Answered = tuple[BatchRequest, BatchAnswer]


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
        raise ConfigError(f"{output}: the output of a batch is a file, and this is not one")
    if only_failed and not resume:
        raise ConfigError("only_failed continues an output, so it needs resume")
    if only_failed and not output.exists():
        raise ConfigError(f"{output}: there is no such output; only_failed needs one")


def length_of(source: BatchSource) -> int | None:
    """The number of lines; None if the source can be read only once.

    All lines are checked, so this raises InvalidRequestError for an invalid id.
    """
    if path_of(source) is None and not isinstance(source, Sequence):
        return None
    return sum(1 for _ in read_unique_entries(source))


def selected(
    source: BatchSource, journal: Journal, counter: BatchCounter, *, only_failed: bool
) -> Iterator[BatchRequest | None]:
    """The requests to send; None for each other line, which is counted and recorded here."""
    for entry in read_unique_entries(source):
        ok = journal.ok(entry)
        wanted = ok is None
        if only_failed:
            wanted = ok is False or (ok is None and journal.was_invalid(entry))
        if wanted and entry.custom_id is not None:
            journal.forget_invalid(entry)
        if not wanted:
            if ok is None:
                counter.count_left_out()
            else:
                counter.count_earlier(ok=ok)
            yield None
        elif isinstance(entry, BadLine):
            journal.add(entry, bad_line_record(entry), ok=False)
            counter.count_invalid(entry)
            yield None
        else:
            yield entry


# How many seconds to wait for an answer before the caller may do something else.
_WAIT = 1.0


def send_all(
    requests: Iterable[BatchRequest | None], sender: BatchSender | FallbackSender, window: int
) -> Generator[Answered | None, None, None]:
    """Each request with its answer, as soon as it arrives; None if none arrived for a second.

    The requests are drawn in the caller's own thread, only while fewer than `window` are under
    way; a None among them is skipped. If drawing a request raises, the requests that are under
    way are still finished and yielded. Closing the generator cancels them.
    """

    async def send(request: BatchRequest) -> Answered:
        return request, await sender.send(request)

    queue = JobQueue(background(), lambda: send, window, ThreadWakeup(), in_order=False)
    under_way = 0

    def answers(*, leave: int) -> Iterator[Answered | None]:
        """What has arrived, and more until no more than `leave` requests are under way."""
        nonlocal under_way
        while True:
            is_enough = under_way <= leave
            arrived = run(queue.take(0.0 if is_enough else _WAIT))
            under_way -= len(arrived)
            yield from arrived
            if is_enough and not arrived:
                return
            if not arrived:
                yield None

    try:
        try:
            for request in requests:
                if request is not None:
                    queue.put(request)
                    under_way += 1
                yield from answers(leave=window - 1)
        except Exception:
            # The requests under way are paid for, so their answers are yielded first.
            yield from answers(leave=0)
            raise
        yield from answers(leave=0)
    finally:
        queue.close()


def run_batch(  # noqa: PLR0913 - the settings of a batch
    source: BatchSource,
    output: str | os.PathLike[str],
    engines: Engine | Sequence[Engine],
    *,
    resume: bool = True,
    only_failed: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BatchReport:
    """Send every request of the source, and append a line to the output as each answer arrives.

    The source is a file in OpenAI's batch format, or any iterable of such lines as mappings. The
    engines are clients of one model; each request goes to the least loaded of them. If the one
    engine is a fallback, each request goes to its engines as a prompt would. The output lines are
    in the order of the answers; `read_batch` returns them in the order of the source.

    With ``resume``, requests that have a line in the output are not sent again; without it, the
    output starts empty. With ``only_failed``, only requests that failed in the output are sent.
    ``on_progress`` is called in this thread, after each line and once per second.

    Raises InvalidRequestError for a ``custom_id`` that is used twice or too long, and ConfigError
    for an output that was not written by a batch, that another run is writing, or that has hosted
    batches under way.
    """
    engine_list: list[Engine] = [engines] if isinstance(engines, Engine) else list(engines)
    path = Path(output)
    check_run(source, path, engine_list, resume=resume, only_failed=only_failed)
    length = length_of(source)
    sender = make_sender(engine_list)
    counter = BatchCounter(length)
    with sole_writer(path):
        refuse_under_way(path)
        with Journal(path, keep=resume) as journal:
            requests = selected(source, journal, counter, only_failed=only_failed)
            send_and_record(requests, sender, journal, counter, on_progress or no_progress)
            counter.complete()
    return BatchReport(path, counter.progress(), tuple(counter.errors))


def make_sender(engines: Sequence[Engine]) -> BatchSender | FallbackSender:
    """What sends requests to the engines, or to those of a fallback if that is the only one."""
    fallback = engines[0] if len(engines) == 1 else None
    if isinstance(fallback, FallbackEngine):
        endpoints = [Endpoint(engine, background()) for engine in fallback.engines]
        return FallbackSender(fallback, endpoints)
    return BatchSender([Endpoint(engine, background()) for engine in engines])


def send_and_record(
    requests: Iterable[BatchRequest | None],
    sender: BatchSender | FallbackSender,
    journal: Journal,
    counter: BatchCounter,
    on_progress: Callable[[Progress], None],
) -> None:
    """Send the requests, and append a line to the journal as each answer arrives."""
    endpoints = sender.endpoints
    window = sum(endpoint.engine.backend.concurrency for endpoint in endpoints)
    with closing(send_all(requests, sender, window)) as answers:
        for answered in answers:
            if answered is None:
                journal.sync_if_due()
            else:
                request, answer = answered
                journal.add(request, answer_record(request, answer), ok=answer.error is None)
                counter.count_answer(request, answer)
            resting = tuple(e.engine.name for e in endpoints if e.out)
            pauses = {e.engine.name: left for e in endpoints if (left := e.pause)}
            on_progress(counter.progress(resting, pauses))


def no_progress(_progress: Progress) -> None:
    """Ignore the progress: the default of ``on_progress``."""
