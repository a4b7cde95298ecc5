"""Run a file of requests as batches of the server itself, by OpenAI's Batch API.

The requests are uploaded, the server answers them within 24 hours, and the answers are written to
the same output as those of `run_batch`. Every step is noted beside the output before and after it
is taken, so a run that was stopped anywhere is continued, and no batch is created twice.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmengine.batch.format import key_of, read_unique_entries, temporary_database
from llmengine.batch.hosted_answers import HostedAnswers
from llmengine.batch.hosted_api import BatchAPI
from llmengine.batch.hosted_batch import ENDED, UNDER_WAY
from llmengine.batch.hosted_state import HostedState
from llmengine.batch.journal import Journal
from llmengine.batch.jsonl import sole_writer
from llmengine.batch.report import BatchCounter, BatchReport
from llmengine.batch.request import answer_record
from llmengine.batch.run import check_run, length_of, selected
from llmengine.telemetry.usage import meter
from llmengine.types.errors import APITimeoutError, CallError, ConfigError, NotFoundError
from llmengine.types.printable import printable
from llmengine.types.results import Result

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from llmengine.batch.format import BatchRequest, BatchSource
    from llmengine.batch.hosted_batch import HostedBatch
    from llmengine.batch.hosted_shards import Shard
    from llmengine.batch.request import BatchAnswer
    from llmengine.engine.engine import Engine

    OnProgress = Callable[[Sequence[HostedBatch]], None]

log = logging.getLogger("llmengine")

POLL_SECONDS = 5.0
# The time between two looks doubles until it is this many times the first one.
_LONGEST_POLL = 12
_JITTER = 0.2
# So many failures in a row end the wait; the batches go on.
_FAILED_LOOKS = 20
# The wait also ends if a batch is in a state that OpenAI does not name, and so many looks in a row
# see no change. Some services have such states before a batch begins ("queued"), so the first look
# is too early; a batch that has ended in such a state would be waited for without end.
UNKNOWN_LOOKS = 20
# Statuses that do not say that the server has not created a batch.
_UNCERTAIN = frozenset({408, 409})


@dataclass(frozen=True, slots=True)
class HostedReport(BatchReport):
    """The end of a hosted run; ``batches`` are the server's batches as they were seen last.

    ``is_complete`` says that no batch is under way any more.
    """

    batches: tuple[HostedBatch, ...] = ()
    is_complete: bool = True


def run_hosted_batch(  # noqa: PLR0913 - the settings of a batch
    source: BatchSource,
    output: str | os.PathLike[str],
    engine: Engine,
    *,
    resume: bool = True,
    only_failed: bool = False,
    wait: bool = True,
    cancel: bool = False,
    poll_seconds: float = POLL_SECONDS,
    on_progress: OnProgress | None = None,
) -> HostedReport:
    """Let the engine's server answer the source as batches, and write the answers to the output.

    ``source``, ``output``, ``resume`` and ``only_failed`` are those of `run_batch`. If batches of
    the output are under way, they are continued and nothing else is sent; with ``cancel``, they
    are cancelled, and the answers that they have by then are kept. Without ``wait``, the batches
    are created, and what has ended is read; a later run reads the rest. ``on_progress`` is called
    in this thread after each look at the batches. The first two looks are ``poll_seconds`` apart,
    and later ones up to twelve times as far.

    Raises what `run_batch` raises, ConfigError if the server has no Batch API, and CallError if a
    request to the API fails, or if a batch stays in a state that OpenAI does not name. The batches
    go on after an error, and a later run continues with them.
    """
    path = Path(output)
    check_run(source, path, [engine], resume=resume, only_failed=only_failed)
    counter = BatchCounter(length_of(source))
    with sole_writer(path):
        state = HostedState(path)
        api = BatchAPI(engine)
        _check_state(state, path, api.server, resume=resume, cancel=cancel)
        with Journal(path, keep=resume) as journal:
            run = _HostedRun(state, api, engine, journal, counter)
            try:
                if state.is_under_way:
                    _count_earlier(source, journal, state, counter)
                else:
                    requests = selected(source, journal, counter, only_failed=only_failed)
                    state.plan(requests, engine.model, api.server)
                if cancel:
                    run.cancel()
                else:
                    run.create()
                run.collect(on_progress or _no_progress, poll_seconds, wait=wait)
            except BaseException as error:
                _end_early(state, error)
                raise
            is_complete = not state.unmerged
            if is_complete:
                journal.sync()
                state.remove()
                counter.complete()
    errors = (*run.problems, *counter.errors)
    return HostedReport(path, counter.progress(), errors, run.batches, is_complete)


def _check_state(
    state: HostedState, output: Path, server: str, *, resume: bool, cancel: bool
) -> None:
    if cancel and not state.is_under_way:
        raise ConfigError(f"{output}: it has no hosted batches that could be cancelled")
    if state.is_under_way and not resume:
        raise ConfigError(
            f"{output}: it has hosted batches that are not finished; finish them by a run that "
            "resumes, or cancel them, before the output is emptied"
        )
    if state.is_under_way and state.server != server:
        raise ConfigError(
            f"{output}: its hosted batches are on {state.server}, and the engine is for {server}; "
            "give the engine of that server"
        )


def _end_early(state: HostedState, error: BaseException) -> None:
    """Remove the state if no batch may exist, else let the error say how to go on."""
    if not state.is_under_way:
        state.remove()
    elif isinstance(error, CallError):
        error.advise("the batches go on, and the same command again continues with them")
        if isinstance(error, NotFoundError):
            error.advise(f"if they are gone, remove {state.folder}")


def _count_earlier(
    source: BatchSource, journal: Journal, state: HostedState, counter: BatchCounter
) -> None:
    """Count the lines that are not in the batches that are continued."""
    with closing(temporary_database()) as index:
        index.execute("CREATE TABLE pending (key BLOB PRIMARY KEY) WITHOUT ROWID")
        for shard in state.unmerged:
            keys = ((key_of(request),) for request in shard.requests())
            index.executemany("INSERT OR IGNORE INTO pending VALUES (?)", keys)
        for entry in read_unique_entries(source):
            query = "SELECT 1 FROM pending WHERE key = ?"
            if index.execute(query, (key_of(entry),)).fetchone():
                continue
            ok = journal.ok(entry)
            if ok is None:
                counter.count_left_out()
            else:
                counter.count_earlier(ok=ok)


class _HostedRun:
    """One run: it creates the batches that are planned, and merges those that have ended.

    ``problems`` are what is wrong with the batches as a whole, and with lines in their files.
    """

    def __init__(
        self,
        state: HostedState,
        api: BatchAPI,
        engine: Engine,
        journal: Journal,
        counter: BatchCounter,
    ) -> None:
        self.problems: list[str] = []
        self._state = state
        self._api = api
        self._engine = engine
        self._journal = journal
        self._counter = counter
        self._batches: dict[int, HostedBatch] = {}
        self._unknown: Counter[int] = Counter()  # looks that saw the same unknown state

    @property
    def batches(self) -> tuple[HostedBatch, ...]:
        """The batches as they were seen last."""
        return tuple(self._batches[number] for number in sorted(self._batches))

    def create(self) -> None:
        """Upload the input of each batch and create it, unless an earlier run did so."""
        for shard in self._state.unmerged:
            if shard.batch is None:
                self._create(shard)

    def _create(self, shard: Shard) -> None:
        if shard.file is None:
            name = f"llmengine-{self._state.run[:8]}-{shard.number}.jsonl"
            self._state.note_file(shard, self._api.upload(shard.path, name))
        assert shard.file is not None
        was_asked = shard.asked
        if not was_asked:
            self._state.note_asked(shard)
        metadata = self._metadata(shard)
        try:
            batch = self._api.create(shard.file, shard.url, metadata, was_asked=was_asked)
        except (CallError, ConfigError) as error:
            if not was_asked and _is_refusal(error):
                self._state.note_refused(shard)
            raise
        self._state.note_batch(shard, batch.id)
        self._batches[shard.number] = batch

    def _metadata(self, shard: Shard) -> dict[str, str]:
        """By which a batch can be recognized among others of the server."""
        return {"llmengine": self._state.run, "shard": str(shard.number)}

    def cancel(self) -> None:
        """Cancel the batches that have not ended; those that were not created are given up."""
        for shard in self._state.unmerged:
            if shard.batch is None and shard.asked and shard.file is not None:
                found = self._api.find(shard.file, self._metadata(shard))
                if found is not None:
                    self._state.note_batch(shard, found.id)
            if shard.batch is None:
                for _ in shard.requests():
                    self._counter.count_left_out()
                self._state.note_merged(shard)
            elif self._goes_on(shard.batch):
                try:
                    self._api.cancel(shard.batch)
                except CallError:
                    if self._goes_on(shard.batch):  # else it has ended in the meantime
                        raise

    def _goes_on(self, batch: str) -> bool:
        """Whether a batch can still be cancelled."""
        seen = self._api.retrieve(batch)
        return not seen.has_ended and seen.status != "cancelling"

    def collect(self, on_progress: OnProgress, first_wait: float, *, wait: bool) -> None:
        """Merge each batch when it has ended; without `wait`, look only once."""
        seconds, failed = first_wait, 0
        while self._state.unmerged:
            pause = 0.0
            try:
                has_ended = [self._look(shard) for shard in self._state.unmerged]
            except CallError as error:
                failed += 1
                is_passing = error.retryable or isinstance(error, APITimeoutError)
                if not wait or not is_passing or failed >= _FAILED_LOOKS:
                    raise
                log.warning("a look at the hosted batches failed: %s", error.label)
                pause = error.retry_after or 0.0
            else:
                failed = 0
                if any(has_ended):
                    seconds = first_wait
            on_progress(self.batches)
            if not wait or not self._state.unmerged:
                return
            jittered = seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # nosec B311  # noqa: S311 - not a secret
            time.sleep(max(pause, jittered))
            seconds = min(2 * seconds, _LONGEST_POLL * first_wait)

    def _look(self, shard: Shard) -> bool:
        """Ask for the state of a batch; returns True if it had ended and was merged."""
        assert shard.batch is not None
        before = self._batches.get(shard.number)
        batch = self._batches[shard.number] = self._api.retrieve(shard.batch)
        if batch.has_ended:
            self._merge(shard, batch)
        elif not batch.is_known:
            self._note_unknown(shard, batch, is_changed=batch != before)
        return batch.has_ended

    def _note_unknown(self, shard: Shard, batch: HostedBatch, *, is_changed: bool) -> None:
        """Warn of a state that OpenAI does not name, and raise CallError if it does not change."""
        looks = self._unknown[shard.number] = 1 if is_changed else 1 + self._unknown[shard.number]
        if looks == 1:
            log.warning("batch %s is %r, which is not a state of the API", batch.id, batch.status)
        if looks >= UNKNOWN_LOOKS:
            known = ", ".join([*UNDER_WAY, *ENDED])
            raise CallError(
                f"batch {batch.id} is {batch.status!r}, and {looks} looks saw no change; that is "
                f"not a state of OpenAI's Batch API ({known}), so it is not known whether the "
                f"batch goes on; if it has ended, get its results from the server, and remove "
                f"{self._state.folder}"
            )

    def _merge(self, shard: Shard, batch: HostedBatch) -> None:
        """Write the answers of an ended batch to the output."""
        if batch.status != "completed":
            reason = f": {batch.problem}" if batch.problem else ""
            self.problems.append(printable(f"batch {batch.id}: {batch.status}{reason}"))
        answers = HostedAnswers(shard, batch, self._engine)
        for file in (batch.output_file, batch.error_file):
            if file is not None:
                self._api.download(file, self._state.results)
                for request, answer in answers.read(self._state.results, file):
                    self._write(request, answer)
        for request, answer in answers.missing():
            self._write(request, answer)
        self.problems += answers.problems
        self._journal.sync()
        self._state.note_merged(shard)

    def _write(self, request: BatchRequest, answer: BatchAnswer) -> None:
        """Write one answer, unless a run that was killed has written it."""
        if self._journal.ok(request):
            self._counter.count_earlier(ok=True)
            return
        self._journal.add(request, answer_record(request, answer), ok=answer.error is None)
        self._counter.count_answer(request, answer)
        self._meter(answer)

    def _meter(self, answer: BatchAnswer) -> None:
        """Count the answer in the totals of the engine, like a call."""
        spent = answer.spent
        result = Result(
            error=answer.error,
            attempts=answer.attempts,
            usage=spent.usage,
            cost=spent.cost,
            uncounted=int(answer.error is None and spent.usage is None),
            currency=spent.currency,
        )
        meter.account(self._engine.backend.account).add(result)


def _is_refusal(error: CallError | ConfigError) -> bool:
    """Whether the error of the first request to create a batch says that there is no batch."""
    if isinstance(error, ConfigError):
        return True  # the server has no such route
    if error.attempts > 1 or error.status is None or error.status in _UNCERTAIN:
        return False
    return 400 <= error.status < 500  # noqa: PLR2004 - the refusals of HTTP


def _no_progress(_batches: Sequence[HostedBatch]) -> None:
    """Ignore the progress: the default of ``on_progress``."""
