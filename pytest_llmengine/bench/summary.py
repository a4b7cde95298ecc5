"""The numbers of one rate: throughput, goodput, latencies, and whether the client was the limit.

Throughput and goodput count the answers that ended in the measured time, after the warm-up.
Latencies are those of the requests that were scheduled in it, also if their answers ended later. A
request that failed counts as slower than any answer, so failures make no percentile better.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING

from pytest_llmengine.bench.run import EVENT_SECONDS
from pytest_llmengine.bench.samples import Metric, can_judge
from pytest_llmengine.statistics import Percentile, percentile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.bench.run import OfferedLoad, RateRun
    from pytest_llmengine.bench.samples import BenchSample, Objective

SHARES = (0.5, 0.9, 0.99)
PARTS = 20
"""The longest time to first token is found in each of so many parts of the measured time."""
LATE = 0.01
"""A request that is sent so many seconds after its time is late, if answers come in little time."""
LATE_PART = 0.1
"""A request is late only if it is sent after this part of the median time to first token."""
MOST_LATE = 0.1
"""The client is the limit if more than this share of the requests is late, ..."""
FEWEST_LATE = 10
"""... and at least so many, so that it does not depend on one or two."""
MOST_CPU = 0.8
"""The client is the limit if it uses more than this share of a CPU core."""
MOST_FAILED = 0.05
"""A server does not sustain a rate if more than this share of the requests fails."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """The values of one metric: how many, and their percentiles; None for too few samples."""

    samples: int
    percentiles: tuple[Percentile | None, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantity:
        """The percentiles of values in the order in which they were measured."""
        return cls(len(values), tuple(percentile(values, share) for share in SHARES))


@dataclass(frozen=True, slots=True)
class SecondHalf:
    """The second half of the measured time: requests that were scheduled, and that ended in it.

    Until then a server may still get busier without being overloaded.
    """

    requests: int
    answers: int
    failures: int

    @property
    def queue_grows(self) -> bool:
        """Whether more requests came than ended, by more than random arrivals explain."""
        return self.requests - self.answers - self.failures > 2 * sqrt(self.requests)


@dataclass(frozen=True, slots=True)
class RateSummary:
    """One rate. ``requests`` were scheduled in the measured time, ``answered`` of them completely.

    ``failures`` counts the others by kind, with an example of each in ``messages``. ``throughput``
    are the answers that ended in the measured time, per second, and ``goodput`` are those of them
    that met all objectives; None if there are no objectives or they cannot be judged.
    ``output_tokens`` are the tokens of these answers per second; None if the server does not report
    all. All three are None if the client stopped early. ``second_half`` tells whether the server
    sustained the rate; None if the client was the limit.
    ``in_flight`` is the largest number of requests at once. ``client_limit`` says why the client
    and not the server was the limit, "" if it was not; there are no latencies then.
    ``without_usage`` of the answers have no number of tokens, and ``in_one_read`` have no times of
    tokens. ``answer_time`` is the median time of a whole answer. ``slowest`` is the longest time to
    first token in each of `PARTS` parts of the measured time, None for a part without answers.
    """

    rate: float
    requests: int
    answered: int
    failures: Mapping[str, int]
    messages: Mapping[str, str]
    throughput: float | None
    goodput: float | None
    output_tokens: float | None
    second_half: SecondHalf | None
    quantities: Mapping[Metric, Quantity]
    in_flight: int
    cpu: float
    client_limit: str
    without_usage: int
    in_one_read: int
    answer_time: float | None
    slowest: tuple[float | None, ...] = field(repr=False)

    @property
    def is_sustained(self) -> bool | None:
        """Whether the server answered as many requests as came; None if that is not known."""
        if self.second_half is None:
            return None
        failed = sum(self.failures.values())
        return not self.second_half.queue_grows and failed <= MOST_FAILED * self.requests


def summarise(run: RateRun, objectives: Sequence[Objective]) -> RateSummary:
    """The numbers of one rate."""
    begin, end = run.load.warm_up, run.load.end
    measured = [sample for sample in run.samples if begin <= sample.scheduled < end]
    answered = [sample for sample in measured if sample.is_answered]
    failed = [sample for sample in measured if sample.error]
    ended = [sample for sample in _ended(run.samples, begin, end) if sample.is_answered]
    tokens = [sample.tokens for sample in ended if sample.tokens is not None]
    good = [sample for sample in ended if all(one.is_met(sample) for one in objectives)]
    is_judged = bool(objectives) and all(can_judge(objectives, sample) for sample in ended)
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
        goodput=per_second(len(good), is_known=is_judged),
        output_tokens=per_second(sum(tokens), is_known=len(tokens) == len(ended)),
        second_half=None if limit else _second_half(run.samples, run.load),
        quantities={} if limit else _quantities(measured),
        in_flight=_most_in_flight(run.samples),
        cpu=run.cpu,
        client_limit=limit,
        without_usage=sum(sample.tokens is None for sample in answered),
        in_one_read=sum(sample.is_in_one_read for sample in answered),
        answer_time=median(one.end_to_end()[0] for one in answered) if answered else None,
        slowest=_slowest(answered, run.load),
    )


def _ended(samples: Iterable[BenchSample], begin: float, end: float) -> list[BenchSample]:
    """The requests that were answered or failed in that time."""
    return [
        sample for sample in samples if sample.ended is not None and begin <= sample.ended < end
    ]


def _second_half(samples: Sequence[BenchSample], load: OfferedLoad) -> SecondHalf:
    middle = load.end - load.seconds / 2
    ended = _ended(samples, middle, load.end)
    answers = sum(sample.is_answered for sample in ended)
    requests = sum(middle <= sample.scheduled < load.end for sample in samples)
    return SecondHalf(requests, answers, len(ended) - answers)


def _quantities(measured: Sequence[BenchSample]) -> dict[Metric, Quantity]:
    return {
        metric: Quantity.of([value for sample in measured for value in metric.of(sample)])
        for metric in Metric
    }


def _most_in_flight(samples: Sequence[BenchSample]) -> int:
    changes = [(one.scheduled, 1) for one in samples]
    changes += [(one.ended, -1) for one in samples if one.ended is not None]
    return max(accumulate(change for _, change in sorted(changes)), default=0)


def _slowest(answered: Sequence[BenchSample], load: OfferedLoad) -> tuple[float | None, ...]:
    parts: list[list[float]] = [[] for _ in range(PARTS)]
    for sample in answered:
        place = int((sample.scheduled - load.warm_up) / load.seconds * PARTS)
        parts[min(place, PARTS - 1)] += sample.first_token()
    return tuple(max(part, default=None) for part in parts)


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
    late = sum(sample.send_delay > allowed for sample in measured)
    if late >= FEWEST_LATE and late > MOST_LATE * len(measured):
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
            Quantity.of([value - EVENT_SECONDS for value in firsts]),
            Quantity.of([abs(value - EVENT_SECONDS) for value in gaps]),
            run.cpu / run.rate,
        )
