"""The state of the Batch API: uploaded files, and batches that go on as time passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmengine.mock.script import is_count, is_duration, shown
from llmengine.types.arguments import checked_fields
from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.mock.behaviour import JSON

# The part of its time that a batch is being validated, and the part after which it is finalized.
_VALIDATED = 0.25
_PROCESSED = 0.75
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})


@checked_fields(InvalidFieldError)
@dataclass(frozen=True, slots=True)
class BatchSchedule:
    """How the batches of a mock server go on; by default, they are complete when they are created.

    - ``seconds``: how long a batch takes by the clock of the server. It is validated in the first
      quarter of this time, and finalized in the last one.
    - ``expires_after``: the batch expires after so many answers; the other lines are errors.
    - ``failure``: no batch passes its validation, for this reason.
    """

    seconds: float = 0.0
    expires_after: int | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        if not is_duration(self.seconds):
            wrong = f"seconds is {shown(self.seconds)}; it must be a number of seconds"
        elif self.expires_after is not None and not is_count(self.expires_after):
            wrong = f"expires_after is {shown(self.expires_after)}; it must be a whole number"
        elif self.failure is not None and not isinstance(self.failure, str):
            wrong = f"failure is {shown(self.failure)}; it must be a text"
        else:
            return
        raise InvalidFieldError(f"BatchSchedule: {wrong}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that was uploaded, or that has the answers of a batch."""

    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int

    @property
    def body(self) -> JSON:
        """The file object of the API."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created_at,
            "expires_at": None,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True, slots=True)
class BatchLine:
    """The result of one line of a batch; ``ok`` says that it has an answer with status 200."""

    custom_id: str
    result: JSON
    ok: bool


@dataclass(slots=True)
class StoredBatch:
    """A batch; ``lines`` are the results of all its lines, in the order in which they are made.

    ``problems`` are the errors of its validation. ``began`` and ``cancelled`` are times of the
    server's clock, and ``created_at`` is a Unix time.
    """

    body: JSON
    schedule: BatchSchedule
    began: float
    created_at: int
    lines: Sequence[BatchLine] = ()
    problems: Sequence[JSON] = ()
    cancelled: float | None = None
    files: JSON = field(default_factory=dict)

    def status(self, now: float) -> str:
        """The state at a time of the server's clock."""
        if self.cancelled is not None:
            is_over = now - self.cancelled >= self.schedule.seconds * _VALIDATED
            return "cancelled" if is_over else "cancelling"
        elapsed, seconds = now - self.began, self.schedule.seconds
        if elapsed < seconds * _VALIDATED:
            return "validating"
        if self.problems:
            return "failed"
        if elapsed < seconds * _PROCESSED:
            return "in_progress"
        if self._limit < len(self.lines):
            return "expired"
        return "finalizing" if elapsed < seconds else "completed"

    def done(self, now: float) -> Sequence[BatchLine]:
        """The lines that have a result at a time of the server's clock."""
        if self.problems:
            return ()
        until = now if self.cancelled is None else self.cancelled
        part = 1.0
        if self.schedule.seconds:
            elapsed = (until - self.began) / self.schedule.seconds
            part = min(1.0, max(0.0, (elapsed - _VALIDATED) / (_PROCESSED - _VALIDATED)))
        return self.lines[: min(self._limit, int(part * len(self.lines)))]

    @property
    def _limit(self) -> int:
        after = self.schedule.expires_after
        return len(self.lines) if after is None else min(after, len(self.lines))
