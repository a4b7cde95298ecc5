"""One measured request with its times, and the objectives that it has to meet.

All times are in seconds from the start of the run. Latencies count from the time for which a
request was scheduled, also if the client sent it later, because a user would have waited that long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Self

from llmengine.types.errors import InvalidFieldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(slots=True)
class BenchSample:
    """One request; it is filled in while it is measured.

    ``reads`` are the times at which content arrived, one per read from the connection that had any.
    ``ended`` is the time of the end of the answer or of its failure. ``tokens`` is the number of
    generated tokens that the server reports. ``error`` is what kind of failure there was, "" if
    there was none, and ``message`` is its text.
    """

    scheduled: float
    sent: float | None = None
    reads: list[float] = field(default_factory=list)
    ended: float | None = None
    tokens: int | None = None
    error: str = ""
    message: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether the answer is complete."""
        return self.ended is not None and not self.error

    @property
    def send_delay(self) -> float:
        """How late the client sent the request."""
        return 0.0 if self.sent is None else max(0.0, self.sent - self.scheduled)

    @property
    def is_in_one_read(self) -> bool:
        """Whether an answer of several tokens came at once, so that it has no times of tokens."""
        return self.is_answered and len(self.reads) == 1 and self.tokens != 1

    # ---- what is measured; a request without a complete answer is slower than any answer

    def first_token(self) -> list[float]:
        """The time to the first content."""
        return [self.reads[0] - self.scheduled if self.is_answered else inf]

    def end_to_end(self) -> list[float]:
        """The time to the end of the answer."""
        return [inf if self.ended is None or self.error else self.ended - self.scheduled]

    def gaps(self) -> list[float]:
        """The times between two reads with content."""
        if not self.is_answered:
            return []
        return [later - earlier for earlier, later in pairwise(self.reads)]

    def per_token(self) -> list[float]:
        """The mean time per token after the first content; [] if it is unknown."""
        if not self.is_answered or not self.reads or self.is_in_one_read:
            return []
        if self.tokens is None or self.tokens < 2:  # noqa: PLR2004 - a pair
            return []
        return [(self.reads[-1] - self.reads[0]) / (self.tokens - 1)]

    def send_delays(self) -> list[float]:
        """How late the client sent the request."""
        return [self.send_delay]


class Metric(StrEnum):
    """What is measured of each answer, by its short name."""

    TTFT = "ttft"
    ITL = "itl"
    TPOT = "tpot"
    E2E = "e2e"
    SEND_DELAY = "send_delay"

    @property
    def label(self) -> str:
        """The name in reports."""
        return _LABELS[self]

    def of(self, sample: BenchSample) -> list[float]:
        """The values of one request."""
        return _VALUES[self](sample)


_LABELS: Mapping[Metric, str] = {
    Metric.TTFT: "time to first token",
    Metric.ITL: "inter-token latency",
    Metric.TPOT: "time per output token",
    Metric.E2E: "end-to-end latency",
    Metric.SEND_DELAY: "send delay",
}
_VALUES: Mapping[Metric, Callable[[BenchSample], list[float]]] = {
    Metric.TTFT: BenchSample.first_token,
    Metric.ITL: BenchSample.gaps,
    Metric.TPOT: BenchSample.per_token,
    Metric.E2E: BenchSample.end_to_end,
    Metric.SEND_DELAY: BenchSample.send_delays,
}
# Metrics of the server, which can have an objective.
OBJECTIVES = (Metric.TTFT, Metric.ITL, Metric.TPOT, Metric.E2E)

_OBJECTIVE = re.compile(rf"({'|'.join(OBJECTIVES)})=(\d+(?:\.\d+)?)(ms|s)?")


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level objective: every value of the metric in an answer is at most ``limit``."""

    metric: Metric
    limit: float

    @classmethod
    def of(cls, text: str) -> Self:
        """The objective in a text such as ``ttft=0.5``; raises InvalidFieldError for others."""
        found = _OBJECTIVE.fullmatch(text)
        if found is None or not float(found[2]):
            raise InvalidFieldError(
                f"objective {text!r}: write {', '.join(OBJECTIVES[:-1])} or {OBJECTIVES[-1]}, =, "
                "and a time, such as ttft=0.5 or itl=50ms"
            )
        return cls(Metric(found[1]), float(found[2]) / (1000 if found[3] == "ms" else 1))

    def __str__(self) -> str:
        return f"{self.metric} <= {self.limit:g} s"

    def is_met(self, sample: BenchSample) -> bool:
        """Whether a complete answer meets it."""
        return all(value <= self.limit for value in self.metric.of(sample))


def objectives_of(texts: Iterable[str]) -> tuple[Objective, ...]:
    """The objectives in texts; raises InvalidFieldError if a metric has two."""
    found: dict[Metric, Objective] = {}
    for text in texts:
        objective = Objective.of(text)
        if objective.metric in found:
            raise InvalidFieldError(f"objective {text!r}: {objective.metric} has one already")
        found[objective.metric] = objective
    return tuple(found.values())


def can_judge(objectives: Sequence[Objective], sample: BenchSample) -> bool:
    """Whether the server reports what the objectives need: the tokens, for the time per token."""
    return sample.tokens is not None or all(one.metric is not Metric.TPOT for one in objectives)
