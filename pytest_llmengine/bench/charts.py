"""The charts of a report: throughput and latencies by rate, and slow answers over the run."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

from pytest_llmengine.bench.samples import Metric
from pytest_llmengine.bench.summary import PARTS, SHARES
from pytest_llmengine.reports.chart import Chart, Series, linear_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_llmengine.bench.report import BenchReport
    from pytest_llmengine.bench.summary import RateSummary

PERCENTILE_NAMES = [f"p{share * 100:g}" for share in SHARES]
OVER_TIME = "Longest time to first token over the run"


def bench_charts(report: BenchReport) -> Iterator[Chart]:
    """The charts that there are numbers for; the tables have the same numbers."""
    rates = sorted(report.rates, key=lambda rate: rate.rate)
    yield _throughput_chart(rates, judged=bool(report.objectives))
    for metric in (Metric.TTFT, Metric.ITL):
        if (chart := _percentile_chart(rates, metric, report)) is not None:
            yield chart
    if (chart := _time_chart(rates, report.load.seconds)) is not None:
        yield chart


def _throughput_chart(rates: Sequence[RateSummary], *, judged: bool) -> Chart:
    ended = [(rate.rate, rate.throughput) for rate in rates if rate.throughput is not None]
    series = [_line("throughput", ended)]
    if judged:
        good = [(rate.rate, rate.goodput) for rate in rates if rate.goodput is not None]
        series.append(_line("goodput, within all objectives", good))
    return Chart(
        title="Throughput by request rate",
        text="A server that sustains a rate answers as many requests per second as come.",
        x=linear_axis("requests per second", [rate.rate for rate in rates]),
        y=linear_axis("answers per second", [y for one in series for _, y in one.points]),
        series=tuple(one for one in series if one.points),
    )


def _percentile_chart(
    rates: Sequence[RateSummary], metric: Metric, report: BenchReport
) -> Chart | None:
    series = []
    for place, name in enumerate(PERCENTILE_NAMES):
        points = [
            (rate.rate, found.value)
            for rate in rates
            if metric in rate.quantities
            and (found := rate.quantities[metric].percentiles[place]) is not None
            and not isinf(found.value)
        ]
        if points:
            series.append(_line(name, points))
    if not series:
        return None
    limits = tuple((one.limit, "objective") for one in report.objectives if one.metric is metric)
    highest = [y for one in series for _, y in one.points] + [limit for limit, _ in limits]
    return Chart(
        title=f"{metric.label.capitalize()} by request rate",
        text="Percentiles that there are enough samples for.",
        x=linear_axis("requests per second", [rate.rate for rate in rates]),
        y=linear_axis("seconds", highest),
        series=tuple(series),
        limits=limits,
    )


def _time_chart(rates: Sequence[RateSummary], seconds: float) -> Chart | None:
    series = []
    for rate in rates:
        points = [
            ((part + 0.5) * seconds / PARTS, time)
            for part, time in enumerate(rate.slowest)
            if time is not None
        ]
        if points and rate.quantities:
            series.append(_line(f"{rate.rate:g}/s", points))
    if not series:
        return None
    return Chart(
        title=OVER_TIME,
        text="Of the requests that were scheduled in each twentieth of the measured time. A pause "
        "of the server is a peak; a queue that grows rises to the end.",
        x=linear_axis("seconds since the warm-up", [seconds]),
        y=linear_axis("seconds", [y for one in series for _, y in one.points]),
        series=tuple(series),
    )


def _line(name: str, points: Sequence[tuple[float, float]]) -> Series:
    return Series(name, tuple(points), dots=len(points) == 1)
