"""The report of a run: what was asked of the server, and what was measured, with its JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isinf
from typing import TYPE_CHECKING

from pytest_llmengine.bench.schema import (
    JSONBenchReport,
    JSONFailure,
    JSONOfferedLoad,
    JSONOverhead,
    JSONPercentile,
    JSONQuantity,
    JSONRate,
)
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from pytest_llmengine.bench.run import OfferedLoad
    from pytest_llmengine.bench.samples import Objective
    from pytest_llmengine.bench.summary import Overhead, Quantity, RateSummary
    from pytest_llmengine.statistics import Percentile


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured at each rate.

    ``target`` describes the server, ``prompts`` what it was asked. ``date`` is when the run began.
    ``is_interrupted`` says that further rates were planned.
    """

    target: str
    model: str
    prompts: str
    max_tokens: int
    load: OfferedLoad
    objectives: tuple[Objective, ...]
    overhead: Overhead
    rates: tuple[RateSummary, ...]
    date: str
    is_interrupted: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the server answered any request."""
        return any(rate.answered for rate in self.rates)

    def to_json(self) -> str:
        """The report as JSON text, whose fields are in ``schema.py``."""
        report = JSONBenchReport(
            schema_version=1,
            tool_version=tool_version(),
            date=self.date,
            target=self.target,
            model=self.model,
            prompts=self.prompts,
            max_tokens=self.max_tokens,
            load=JSONOfferedLoad(**asdict(self.load)),
            objectives={one.metric: one.limit for one in self.objectives},
            is_interrupted=self.is_interrupted,
            overhead=_json_overhead(self.overhead),
            rates=[_json_rate(rate) for rate in self.rates],
        )
        return report.model_dump_json(indent=2) + "\n"


def _json_rate(rate: RateSummary) -> JSONRate:
    return JSONRate(
        rate=rate.rate,
        requests=rate.requests,
        answered=rate.answered,
        failures=[
            JSONFailure(kind=kind, count=count, example=rate.messages[kind])
            for kind, count in rate.failures.items()
        ],
        throughput=rate.throughput,
        goodput=rate.goodput,
        output_tokens_per_second=rate.output_tokens,
        sustained=rate.is_sustained,
        in_flight=rate.in_flight,
        client_cpu=rate.cpu,
        client_limit=rate.client_limit,
        without_usage=rate.without_usage,
        in_one_read=rate.in_one_read,
        latencies={metric: _json_quantity(one) for metric, one in rate.quantities.items()},
        slowest_ttft=list(rate.slowest),
    )


def _json_overhead(overhead: Overhead) -> JSONOverhead:
    return JSONOverhead(
        rate=overhead.rate,
        answers=overhead.answers,
        first_token=_json_quantity(overhead.first_token),
        gap=_json_quantity(overhead.gap),
        cpu_per_answer=overhead.cpu,
    )


def _json_quantity(quantity: Quantity) -> JSONQuantity:
    p50, p90, p99 = map(_json_percentile, quantity.percentiles)
    return JSONQuantity(samples=quantity.samples, p50=p50, p90=p90, p99=p99)


def _json_percentile(found: Percentile | None) -> JSONPercentile | None:
    if found is None:
        return None
    value, low, high = (
        None if isinf(time) else time for time in (found.value, found.low, found.high)
    )
    return JSONPercentile(value=value, low=low, high=high)
