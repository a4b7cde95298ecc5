"""The progress of a batch, and the report at its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmengine.telemetry.usage import Spending

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
    """Counts the lines and the cost of a batch while it runs."""

    def __init__(self, total: int | None) -> None:
        self.errors: list[str] = []
        self._started = time.monotonic()
        self._now = Progress(total=total)
        self._spent = Spending()

    def count_earlier(self, *, ok: bool) -> None:
        """Count a line that an earlier run has written."""
        self._count(ok=ok, earlier=1)

    def count_unknown(self, *, ok: bool) -> None:
        """Count a line from a process of this run that has died; its cost is unknown."""
        self._count(ok=ok)
        self._spent += Spending(cost=None)

    def count_left_out(self) -> None:
        """Count a line that this run leaves out."""
        self._now = replace(self._now, unasked=self._now.unasked + 1)

    def count_invalid(self, entry: BadLine) -> None:
        """Count a line that is not a valid request."""
        self._keep_error(entry, entry.problem)
        self._count(ok=False)

    def count_answer(self, request: BatchRequest, answer: BatchAnswer) -> None:
        """Count a request that was sent, with its answer or its error."""
        if answer.error is not None:
            self._keep_error(request, str(answer.error))
        self._count(ok=answer.error is None, attempts=answer.attempts)
        self._spent += answer.spent

    def count_part(self, part: Progress, errors: Sequence[str]) -> None:
        """Count the lines that another process has sent, with its cost and errors."""
        self.errors += errors[: ERRORS_KEPT - len(self.errors)]
        now = self._now
        self._now = replace(
            now,
            answered=now.answered + part.answered,
            failed=now.failed + part.failed,
            attempts=now.attempts + part.attempts,
        )
        self._spent += Spending(part.usage, part.cost, part.currency)

    def progress(
        self, resting: tuple[str, ...] = (), pauses: Mapping[str, float] | None = None
    ) -> Progress:
        """The state of the batch so far."""
        return replace(
            self._now,
            usage=self._spent.usage,
            cost=self._spent.cost,
            currency=self._spent.currency,
            seconds=time.monotonic() - self._started,
            resting=resting,
            pauses=pauses or {},
        )

    def complete(self) -> None:
        """Set the number of lines, which is known at the end of the input."""
        self._now = replace(self._now, total=self._now.done)

    def _count(self, *, ok: bool, earlier: int = 0, attempts: int = 0) -> None:
        now = self._now
        self._now = replace(
            now,
            answered=now.answered + ok,
            failed=now.failed + (not ok),
            earlier=now.earlier + earlier,
            attempts=now.attempts + attempts,
        )

    def _keep_error(self, entry: Entry, problem: str) -> None:
        if len(self.errors) < ERRORS_KEPT:
            name = "" if entry.custom_id is None else f" ({entry.custom_id})"
            self.errors.append(f"line {entry.line}{name}: {problem}")
