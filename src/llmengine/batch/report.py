"""The progress of a batch, and the report at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmengine.telemetry.usage import total_cost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from llmengine.batch.format import BadLine, BatchRequest, Entry
    from llmengine.batch.request import BatchAnswer
    from llmengine.types.outputs import Usage

ERRORS_KEPT = 5


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a batch so far.

    ``total`` is the number of input lines, or None while it is unknown. ``answered`` and
    ``failed`` count lines of the output; ``earlier`` of them were there before this run.
    ``unasked`` counts lines that were left out by ``only_failed``. ``attempts``, ``usage``,
    ``cost`` and ``seconds`` are those of this run only. ``usage`` is None if no server reported
    any. ``cost`` is in ``currency``, by the engines' prices; it is None if any part is unknown.
    ``resting`` names engines that do not answer; ``pauses`` names engines whose server asked for
    a pause (HTTP 429), with the seconds left of it.
    """

    total: int | None = None
    answered: int = 0
    failed: int = 0
    earlier: int = 0
    unasked: int = 0
    attempts: int = 0
    usage: Usage | None = None
    cost: float | None = 0.0
    currency: str | None = None
    seconds: float = 0.0
    resting: tuple[str, ...] = ()
    pauses: Mapping[str, float] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """The number of lines for which nothing is left to do."""
        return self.answered + self.failed + self.unasked

    @property
    def rate(self) -> float:
        """Lines per second in this run."""
        mine = self.answered + self.failed - self.earlier
        return mine / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time left at this rate; None if the total or the rate is unknown."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The end of a batch: ``progress`` has the counts, ``errors`` the first few error messages."""

    output: Path
    progress: Progress
    errors: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every line of the input has its answer in the output."""
        return self.progress.answered == self.progress.total


class BatchCounter:
    """Counts the lines and the costs of a batch while it runs."""

    def __init__(self, total: int | None) -> None:
        self.errors: list[str] = []
        self._started = time.monotonic()
        self._now = Progress(total=total)

    def earlier(self, *, ok: bool) -> None:
        """Count a line that an earlier run has written."""
        self._end(ok=ok, earlier=1)

    def again(self, *, ok: bool) -> None:
        """Count a line from a process of this run that has died; its cost is unknown."""
        self._end(ok=ok)
        self._now = replace(self._now, cost=None, currency=None)

    def unasked(self) -> None:
        """Count a line that this run leaves out."""
        self._now = replace(self._now, unasked=self._now.unasked + 1)

    def bad(self, entry: BadLine) -> None:
        """Count a line that is not a valid request."""
        self._complain(entry, entry.problem)
        self._end(ok=False)

    def asked(self, request: BatchRequest, answer: BatchAnswer) -> None:
        """Count a line that was asked, with its answer or its error."""
        if answer.error is not None:
            self._complain(request, str(answer.error))
        self._end(ok=answer.error is None, attempts=answer.attempts)
        self._spend(answer)

    def elsewhere(self, run: Progress, errors: Sequence[str]) -> None:
        """Count the lines that another process has asked, with its costs and errors."""
        self.errors += errors[: ERRORS_KEPT - len(self.errors)]
        now = self._now
        self._now = replace(
            now,
            answered=now.answered + run.answered,
            failed=now.failed + run.failed,
            attempts=now.attempts + run.attempts,
        )
        self._spend(run)

    def progress(
        self, resting: tuple[str, ...] = (), pauses: Mapping[str, float] | None = None
    ) -> Progress:
        """The state of the batch so far."""
        seconds = time.monotonic() - self._started
        return replace(self._now, seconds=seconds, resting=resting, pauses=pauses or {})

    def complete(self) -> None:
        """Note that the input is at its end, so its length is known."""
        self._now = replace(self._now, total=self._now.done)

    def _end(self, *, ok: bool, earlier: int = 0, attempts: int = 0) -> None:
        now = self._now
        self._now = replace(
            now,
            answered=now.answered + ok,
            failed=now.failed + (not ok),
            earlier=now.earlier + earlier,
            attempts=now.attempts + attempts,
        )

    def _spend(self, answer: BatchAnswer | Progress) -> None:
        now, usage = self._now, answer.usage
        if usage is not None and now.usage is not None:
            usage = now.usage + usage
        both = [(now.cost, now.currency), (answer.cost, answer.currency)]
        cost, currency = total_cost(both)
        self._now = replace(now, usage=usage or now.usage, cost=cost, currency=currency)

    def _complain(self, entry: Entry, words: str) -> None:
        if len(self.errors) < ERRORS_KEPT:
            who = "" if entry.custom_id is None else f" ({entry.custom_id})"
            self.errors.append(f"line {entry.line}{who}: {words}")
