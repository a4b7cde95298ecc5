"""The numbers of one rate: throughput, goodput, latencies, and whether the client was the limit.

Numbers of requests and answers are those of the measured time, after the warm-up. Latencies are
those of the requests that were scheduled in it, also if their answers ended later. A request that
failed counts as slower than any answer, so failures make no percentile better.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from math import isinf, sqrt
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_llmengine.bench.run import OVERHEAD_SECONDS
from pytest_llmengine.bench.samples import Metric, can_judge
from pytest_llmengine.statistics import Percentile, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.bench.run import RateRun
    from pytest_llmengine.bench.samples import BenchSample, Objective

SHARES = (0.5, 0.9, 0.99)
LATE = 0.01
"""A request that is sent so many seconds after its time is late, if answers come in little time."""
LATE_PART = 0.1
"""A request is late only if it is sent after this part of the median time to first token."""
MOST_LATE = 0.1
"""The client is the limit if more than this share of the requests is late."""
MOST_CPU = 0.8
"""The client is the limit if it uses more than this share of a CPU core."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """The values of one metric: how many, and their percentiles; None for too few samples."""

    samples: int
    percentiles: tuple[Percentile | None, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantity:
        """The percentiles of values in the order in which they were measured."""
        return cls(len(values), tuple(percentile(values, share) for share in SHARES))

    def to_dict(self) -> dict[str, Any]:
        """The values as a JSON object, in seconds."""
        found = {
            f"p{share * 100:g}": one and _finite(value=one.value, low=one.low, high=one.high)
            for share, one in zip(SHARES, self.percentiles, strict=True)
        }
        return {"samples": self.samples} | found


def _finite(**seconds: float) -> dict[str, float | None]:
    """The times, with None for those of requests that failed, since JSON has no infinity."""
    return {name: None if isinf(value) else value for name, value in seconds.items()}


@dataclass(frozen=True, slots=True)
class RateSummary:
    """One rate. ``requests`` were scheduled in the measured time, ``answered`` of them completely.

    ``failures`` counts the others by kind, with an example of each in ``messages``. ``throughput``
    are the answers that ended in the measured time, per second, and ``tokens_per_second`` their
    tokens, None if the server does not report them. ``goodput`` are the answers that met all
    objectives, per second; None if there are no objectives or they cannot be judged. All three are
    None if the client stopped before the end of the measured time.
    ``backlog`` is how many more requests were unanswered at the end of the measured time than at
    its start. ``in_flight`` is the largest number of them at once. ``client_limit`` says why the
    client and not the server was the limit, "" if it was not; there are no latencies then.
    ``times`` are pairs of scheduled time and time to first token, for a chart.
    """

    rate: float
    requests: int
    answered: int
    failures: Mapping[str, int]
    messages: Mapping[str, str]
    throughput: float | None
    tokens_per_second: float | None
    goodput: float | None
    quantities: Mapping[Metric, Quantity]
    backlog: int
    in_flight: int
    cpu: float
    client_limit: str
    times: tuple[tuple[float, float], ...] = field(repr=False)

    @property
    def is_growing(self) -> bool:
        """Whether the queue grew by more than random arrivals explain."""
        return not self.client_limit and self.backlog > 2 * sqrt(self.requests)

    def to_dict(self) -> dict[str, Any]:
        """The summary as a JSON object; times are in seconds."""
        return {
            "rate": self.rate,
            "requests": self.requests,
            "answered": self.answered,
            "failures": [
                {"kind": kind, "count": count, "example": self.messages[kind]}
                for kind, count in self.failures.items()
            ],
            "throughput": self.throughput,
            "tokens_per_second": self.tokens_per_second,
            "goodput": self.goodput,
            "backlog": self.backlog,
            "is_growing": self.is_growing,
            "in_flight": self.in_flight,
            "client_cpu": self.cpu,
            "client_limit": self.client_limit,
            "latencies": {
                metric.value: quantity.to_dict() for metric, quantity in self.quantities.items()
            },
        }


def summarise(run: RateRun, objectives: Sequence[Objective]) -> RateSummary:
    """The numbers of one rate."""
    begin, end = run.load.warm_up, run.load.warm_up + run.load.seconds
    measured = [sample for sample in run.samples if begin <= sample.scheduled < end]
    answered = [sample for sample in measured if sample.is_answered]
    failed = [sample for sample in measured if sample.error]
    ended = [
        sample
        for sample in run.samples
        if sample.is_answered and sample.ended is not None and begin <= sample.ended < end
    ]
    tokens = [sample.tokens for sample in ended if sample.tokens is not None]
    good = [
        sample for sample in answered if all(objective.is_met(sample) for objective in objectives)
    ]
    is_counted = len(tokens) == len(ended)
    is_judged = bool(objectives) and all(can_judge(objectives, sample) for sample in answered)
    limit = _client_limit(run, measured, answered)

    def per_second(number: int, *, is_known: bool = True) -> float | None:
        return number / run.load.seconds if is_known and not run.is_full else None

    return RateSummary(
        rate=run.rate,
        requests=len(measured),
        answered=len(answered),
        failures=Counter(sample.error for sample in failed),
        messages={sample.error: sample.message for sample in reversed(failed)},
        throughput=per_second(len(ended)),
        tokens_per_second=per_second(sum(tokens), is_known=is_counted),
        goodput=per_second(len(good), is_known=is_judged),
        quantities={} if limit else _quantities(measured),
        backlog=_in_flight(run.samples, end) - _in_flight(run.samples, begin),
        in_flight=_most_in_flight(run.samples),
        cpu=run.cpu,
        client_limit=limit,
        times=tuple((one.scheduled - begin, one.first_token()[0]) for one in answered),
    )


def _quantities(measured: Sequence[BenchSample]) -> dict[Metric, Quantity]:
    return {
        metric: Quantity.of([value for sample in measured for value in metric.of(sample)])
        for metric in Metric
    }


def _in_flight(samples: Iterable[BenchSample], time: float) -> int:
    """How many requests were scheduled and not yet answered at that time."""
    return sum(one.scheduled <= time and not _has_ended(one, time) for one in samples)


def _has_ended(sample: BenchSample, time: float) -> bool:
    return sample.ended is not None and sample.ended <= time


def _most_in_flight(samples: Sequence[BenchSample]) -> int:
    changes = [(one.scheduled, 1) for one in samples]
    changes += [(one.ended, -1) for one in samples if one.ended is not None]
    return max(accumulate(change for _, change in sorted(changes)), default=0)


def _client_limit(
    run: RateRun, measured: Sequence[BenchSample], answered: Sequence[BenchSample]
) -> str:
    """Why the numbers say more about the client than about the server; "" if they do not."""
    if run.is_full:
        return (
            f"{len(run.samples)} requests were sent, and then as many were in flight as a process "
            "may have; LLMENGINE_MAX_CONCURRENCY sets how many that is"
        )
    if run.cpu > MOST_CPU:
        return f"the client used {run.cpu:.0%} of a CPU core"
    firsts = [value for sample in answered for value in sample.first_token()]
    allowed = max(LATE, LATE_PART * median(firsts)) if firsts else LATE
    late = sum(sample.lag > allowed for sample in measured)
    if late > MOST_LATE * len(measured):
        return f"{late} of {len(measured)} requests were sent over {1000 * allowed:.0f} ms late"
    return ""


@dataclass(frozen=True, slots=True)
class Overhead:
    """What the client adds, measured at a server that sends its events at known times.

    ``first_token`` and ``gap`` are how much later than that the client saw the first event, and how
    much the times between events differed. ``cpu`` is the CPU time per answer in seconds.
    """

    rate: float
    answers: int
    first_token: Quantity
    gap: Quantity
    cpu: float

    @classmethod
    def of(cls, run: RateRun) -> Overhead:
        """The overhead that a run at the minimal server shows."""
        answered = [
            sample
            for sample in run.samples
            if sample.is_answered and sample.scheduled >= run.load.warm_up
        ]
        firsts = [value for sample in answered for value in sample.first_token()]
        gaps = [value for sample in answered for value in sample.gaps()]
        return cls(
            run.rate,
            len(answered),
            Quantity.of([value - OVERHEAD_SECONDS for value in firsts]),
            Quantity.of([abs(value - OVERHEAD_SECONDS) for value in gaps]),
            run.cpu / run.rate,
        )

    def to_dict(self) -> dict[str, Any]:
        """The overhead as a JSON object, in seconds."""
        return {
            "rate": self.rate,
            "answers": self.answers,
            "first_token": self.first_token.to_dict(),
            "gap": self.gap.to_dict(),
            "cpu_per_answer": self.cpu,
        }
