"""Time limits for answers, checks and runs, and when a run gives up on a server."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a run; times are in seconds.

    ``answer`` is for one whole answer, ``check`` for all requests of a check together, ``run`` for
    all checks together. The run stops after ``unanswered`` checks in a row without a whole answer.
    """

    answer: float = 120.0
    check: float = 300.0
    run: float = 7200.0
    unanswered: int = 3


@dataclass(slots=True)
class RunBudget:
    """Counts the time of a run, and the checks in a row that the server did not answer.

    The time begins with the first check.
    """

    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    _ends: float | None = None
    _unanswered: int = 0

    def begin(self) -> float:
        """The number of seconds that the next check may take."""
        if self._ends is None:
            self._ends = self.clock() + self.limits.run
        return min(self.limits.check, self._ends - self.clock())

    def count(self, answered: bool | None) -> None:
        """Note whether a check got a whole answer; None for a check that sent no request."""
        if answered is not None:
            self._unanswered = 0 if answered else self._unanswered + 1

    @property
    def over(self) -> str:
        """Why no more checks are run; "" while the run goes on."""
        if self._unanswered >= self.limits.unanswered:
            return (
                f"the run stopped: {self._unanswered} checks in a row got no answer "
                "(--max-unanswered)"
            )
        if self._ends is not None and self.clock() >= self._ends:
            return f"the run stopped: its {self.limits.run:g} s are over (--run-timeout)"
        return ""
