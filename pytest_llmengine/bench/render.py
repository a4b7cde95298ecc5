"""The report of a run as a page: tables, and charts in its HTML form."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

from pytest_llmengine.bench.samples import Metric
from pytest_llmengine.bench.summary import SHARES
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.chart import Chart, Series, linear_axis
from pytest_llmengine.reports.page import Page, Table
from pytest_llmengine.statistics.percentiles import CONFIDENCE, FEWEST_BEYOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from pytest_llmengine.bench.report import BenchReport
    from pytest_llmengine.bench.summary import Overhead, Quantity, RateSummary
    from pytest_llmengine.reports.page import Block
    from pytest_llmengine.statistics import Percentile

_NAMES = [f"p{share * 100:g}" for share in SHARES]
_UNKNOWN = "-"
_MOST_DOTS = 400  # of a series


def print_report(report: BenchReport, console: Console) -> None:
    """Print what was asked, the overhead, the tables, and the best rate."""
    pages.print_page(_page(report, _tables(report)), console)


def write_report(report: BenchReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed."""
    pages.write_report(path, lambda: bench_page(report), report.to_json)


def bench_page(report: BenchReport) -> Page:
    """The report as a page with charts."""
    tables = _tables(report)
    return _page(report, [*tables[:1], *_charts(report), *tables[1:]])


def _page(report: BenchReport, blocks: Sequence[Block]) -> Page:
    return Page(
        title=f"Bench: {report.model}",
        lines=tuple(_lines(report)),
        summary=_summary(report),
        good=None if report.is_answered else False,
        blocks=tuple(blocks),
    )


_NOTE = (
    "Latencies count from the time for which a request was scheduled, in ms. The brackets are a "
    f"{CONFIDENCE:.0%} confidence interval. {_UNKNOWN}: there are not {FEWEST_BEYOND} samples "
    "beyond the percentile, or they depend on each other too much. inf: so many requests failed. "
    "CPU: that of the client, of one core. At once: the most requests in flight."
)


def _lines(report: BenchReport) -> Iterator[str]:
    load = report.load
    yield f"{report.target}, {report.date}"
    yield f"prompts: {report.prompts}; at most {report.max_tokens} tokens per answer"
    yield (
        f"{load.arrivals} arrivals (seed {load.seed}), {load.seconds:g} s per rate after a "
        f"warm-up of {load.warm_up:g} s"
    )
    if report.objectives:
        yield f"objectives: {', '.join(map(str, report.objectives))}"
    yield _overhead_line(report.overhead)
    for rate in report.rates:
        yield from (f"at {rate.rate:g}/s: {remark}" for remark in _remarks(rate))
    if report.is_interrupted:
        yield "the run was interrupted; further rates were not measured"
    yield _NOTE


def _overhead_line(overhead: Overhead) -> str:
    """The overhead in one line, with the percentiles that there are samples for."""

    def listed(quantity: Quantity) -> str:
        pairs = zip(_NAMES, quantity.percentiles, strict=True)
        found = [f"{name} {_ms(one.value)}" for name, one in pairs if one is not None]
        return ", ".join(found) or _UNKNOWN

    if not overhead.answers:
        return "what the client adds is unknown: it got no answer from a server of this machine"
    return (
        f"at a server that does nothing, {overhead.answers} answers at {overhead.rate:g}/s: first "
        f"token {listed(overhead.first_token)} ms late, gaps wrong by {listed(overhead.gap)} ms, "
        f"{_ms(overhead.cpu)} ms of CPU per answer"
    )


def _remarks(rate: RateSummary) -> Iterator[str]:
    if rate.client_limit:
        yield f"client-bound, so there are no latencies: {rate.client_limit}"
    if rate.is_growing:
        yield (
            f"the queue grew by {rate.backlog} requests: the rate is above what the server can "
            "do, and latencies depend on how long the run takes"
        )
    for kind, count in rate.failures.items():
        yield f"{count} failed, {kind}, such as: {pages.clipped(rate.messages[kind], 200)}"


def _summary(report: BenchReport) -> str:
    if not report.is_answered:
        return "the server answered no request completely"
    good = [(rate.goodput, rate.rate) for rate in report.rates if rate.goodput is not None]
    if good:
        best, rate = max(good)
        if not best:
            return "no answer was within all objectives"
        return f"highest goodput: {best:.3g} answers/s within all objectives, at {rate:g}/s"
    ended = [(one.throughput, one.rate) for one in report.rates if one.throughput is not None]
    if not ended:
        return "the client was the limit at each rate"
    best, rate = max(ended)
    return f"highest throughput: {best:.3g} answers/s, at {rate:g}/s"


# ---- tables


def _tables(report: BenchReport) -> list[Block]:
    rates = _rate_table(report.rates)
    measured = [rate for rate in report.rates if rate.quantities]
    return [rates, _latency_table(measured)] if measured else [rates]


def _rate_table(rates: Sequence[RateSummary]) -> Table:
    heads = (
        *("rate/s", "requests", "failed", "answers/s", "tokens/s", "goodput/s"),
        *("at once", "CPU", "remark"),
    )
    numbers = heads[:-1]
    return Table.of_texts(heads, map(_rate_row, rates), "Rates", right=numbers, unwrapped=numbers)


def _rate_row(rate: RateSummary) -> tuple[str, ...]:
    remarks = {"client-bound": bool(rate.client_limit), "queue grows": rate.is_growing}
    return (
        f"{rate.rate:g}",
        str(rate.requests),
        str(sum(rate.failures.values())),
        _number(rate.throughput),
        _number(rate.tokens_per_second),
        _number(rate.goodput),
        str(rate.in_flight),
        f"{rate.cpu:.0%}",
        ", ".join(remark for remark, holds in remarks.items() if holds),
    )


def _latency_table(rates: Sequence[RateSummary]) -> Table:
    heads = ("rate/s", "latency in ms", "samples", *_NAMES)
    rows = [
        (f"{rate.rate:g}", metric.label, str(quantity.samples), *map(_cell, quantity.percentiles))
        for rate in rates
        for metric, quantity in rate.quantities.items()
    ]
    return Table.of_texts(heads, rows, "Latencies", right=heads[2:], unwrapped=heads[:3])


def _cell(found: Percentile | None) -> str:
    """The value and its interval, without a space in it, where a narrow terminal would break it."""
    if found is None:
        return _UNKNOWN
    return f"{_ms(found.value)} [{_ms(found.low)},{_ms(found.high)}]"


def _ms(seconds: float) -> str:
    """The time in ms, with two digits at least; "inf" for requests that failed."""
    value = 1000 * seconds
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 1 else 2  # noqa: PLR2004 - two digits
    return f"{value:.{digits}f}"


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.3g}"


# ---- charts


def _charts(report: BenchReport) -> Iterator[Chart]:
    rates = sorted(report.rates, key=lambda rate: rate.rate)
    yield _throughput_chart(rates, judged=bool(report.objectives))
    for metric in (Metric.TTFT, Metric.ITL):
        if (chart := _percentile_chart(rates, metric, report)) is not None:
            yield chart
    if (chart := _time_chart(rates)) is not None:
        yield chart


def _throughput_chart(rates: Sequence[RateSummary], *, judged: bool) -> Chart:
    ended = [(rate.rate, rate.throughput) for rate in rates if rate.throughput is not None]
    series = [_line("answers/s", ended)]
    if judged:
        good = [(rate.rate, rate.goodput) for rate in rates if rate.goodput is not None]
        series.append(_line("goodput/s, within all objectives", good))
    return Chart(
        title="Throughput by rate",
        text="A server that keeps up answers as many requests per second as come.",
        x=linear_axis("requests per second", [rate.rate for rate in rates]),
        y=linear_axis("answers per second", [y for one in series for _, y in one.points]),
        series=tuple(one for one in series if one.points),
    )


def _percentile_chart(
    rates: Sequence[RateSummary], metric: Metric, report: BenchReport
) -> Chart | None:
    series = []
    for place, name in enumerate(_NAMES):
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
        title=f"{metric.label.capitalize()} by rate",
        text="Percentiles that there are enough samples for.",
        x=linear_axis("requests per second", [rate.rate for rate in rates]),
        y=linear_axis("seconds", highest),
        series=tuple(series),
        limits=limits,
    )


def _time_chart(rates: Sequence[RateSummary]) -> Chart | None:
    series = tuple(
        Series(f"{rate.rate:g}/s", _thinned(rate.times), dots=True)
        for rate in rates
        if rate.times and rate.quantities
    )
    if not series:
        return None
    points = [point for one in series for point in one.points]
    return Chart(
        title="Time to first token over the run",
        text="Each dot is an answer. A pause of the server is a slope, since all requests that "
        "were scheduled in it wait for its end; a queue that grows rises to the end.",
        x=linear_axis("seconds since the warm-up", [x for x, _ in points]),
        y=linear_axis("seconds", [y for _, y in points]),
        series=series,
    )


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The points, or the highest of each of `_MOST_DOTS` parts."""
    size = -(-len(points) // _MOST_DOTS)
    parts = (points[start : start + size] for start in range(0, len(points), size))
    return tuple(max(part, key=_second) for part in parts)


_second: Callable[[tuple[float, float]], float] = lambda point: point[1]  # noqa: E731


def _line(name: str, points: Sequence[tuple[float, float]]) -> Series:
    return Series(name, tuple(points), dots=len(points) == 1)
