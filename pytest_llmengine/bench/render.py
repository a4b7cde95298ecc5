"""The report of a run as a page: tables, and charts in its HTML form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.bench.charts import OVER_TIME, PERCENTILE_NAMES, bench_charts
from pytest_llmengine.bench.samples import Metric
from pytest_llmengine.bench.summary import PARTS
from pytest_llmengine.reports import page as pages
from pytest_llmengine.reports.page import Page, Table
from pytest_llmengine.statistics.percentiles import CONFIDENCE, FEWEST_BEYOND

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from pytest_llmengine.bench.report import BenchReport
    from pytest_llmengine.bench.summary import Overhead, Quantity, RateSummary
    from pytest_llmengine.reports.page import Block
    from pytest_llmengine.statistics import Percentile

_UNKNOWN = "-"


def print_report(report: BenchReport, console: Console) -> None:
    """Print what was asked, the overhead, the tables, and the best rate."""
    pages.print_page(_page(report, _tables(report)), console)


def write_report(report: BenchReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed."""
    pages.write_report(path, lambda: bench_page(report), report.to_json)


def bench_page(report: BenchReport) -> Page:
    """The report as a page with charts, and tables of all that they show."""
    tables = _tables(report)
    return _page(report, [*tables[:1], *bench_charts(report), *tables[1:], *_time_table(report)])


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
    "beyond the percentile (give more --seconds), or they depend on each other too much. inf: so "
    "many requests failed. In flight: the most requests at once. CPU: the client's, of one core."
)


def _lines(report: BenchReport) -> Iterator[str]:
    load = report.load
    yield f"{report.target}, {report.date}"
    yield f"prompts: {report.prompts}; at most {report.max_tokens} tokens per answer"
    yield (
        f"{load.arrivals} arrivals (seed {load.seed}), {load.seconds:g} s per rate after a "
        f"warm-up of {load.warm_up:.3g} s"
    )
    if report.objectives:
        yield f"objectives: {', '.join(map(str, report.objectives))}"
    yield _overhead_line(report.overhead)
    yield from _limits(report)
    for rate in report.rates:
        yield from (f"at {rate.rate:g}/s: {remark}" for remark in _remarks(rate, load.warm_up))
    if report.is_interrupted:
        yield "the run was interrupted; further rates were not measured"
    yield _NOTE


def _overhead_line(overhead: Overhead) -> str:
    """The overhead in one line, with the percentiles that there are samples for."""

    def listed(quantity: Quantity) -> str:
        pairs = zip(PERCENTILE_NAMES, quantity.percentiles, strict=True)
        found = [f"{name} {_ms(one.value)}" for name, one in pairs if one is not None]
        return ", ".join(found) or _UNKNOWN

    if not overhead.answers:
        return "what the client adds is unknown: a server on this machine did not answer it"
    return (
        f"at a server that does nothing, {overhead.answers} answers at {overhead.rate:g}/s: first "
        f"token {listed(overhead.first_token)} ms late, gaps wrong by {listed(overhead.gap)} ms, "
        f"{_ms(overhead.cpu)} ms of CPU per answer"
    )


def _limits(report: BenchReport) -> Iterator[str]:
    """What cannot be measured because of how the server answers."""
    answered = sum(rate.answered for rate in report.rates)
    if without := sum(rate.without_usage for rate in report.rates):
        is_needed = any(one.metric is Metric.TPOT for one in report.objectives)
        yield (
            f"{without} of {answered} answers have no usage, so their tokens cannot be counted: no "
            f"tokens/s, no time per output token{', no goodput' if is_needed else ''}"
        )
    if at_once := sum(rate.in_one_read for rate in report.rates):
        yield (
            f"{at_once} of {answered} answers came all at once, so they have no times between "
            "tokens: the server, or a proxy before it, does not stream"
        )


def _remarks(rate: RateSummary, warm_up: float) -> Iterator[str]:
    if rate.client_limit:
        yield f"the client was the limit, so there are no latencies: {rate.client_limit}"
    if rate.second_half is not None and rate.second_half.queue_grows:
        yield (
            f"the queue grew: in the second half {rate.second_half.requests} requests came and "
            f"{rate.second_half.answers} were answered; latencies depend on how long the run takes"
        )
    elif rate.answer_time is not None and rate.answer_time > warm_up:
        yield (
            f"an answer takes {rate.answer_time:.3g} s, which is longer than the warm-up, so "
            "throughput and goodput are too low; give a longer --warm-up"
        )
    for kind, count in rate.failures.items():
        yield f"{count} failed, {kind}, such as: {pages.clipped(rate.messages[kind], 200)}"


def _summary(report: BenchReport) -> str:
    if not report.is_answered:
        return "the server answered no request completely"
    failing = [f"{rate.rate:g}/s" for rate in report.rates if rate.is_sustained is False]
    return _best(report) + (f"; not sustained: {', '.join(failing)}" if failing else "")


def _best(report: BenchReport) -> str:
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
    measured = [rate for rate in report.rates if rate.quantities and rate.answered]
    return [rates, _latency_table(measured)] if measured else [rates]


def _rate_table(rates: Sequence[RateSummary]) -> Table:
    heads = (
        *("rate", "requests", "failed", "throughput", "goodput", "tokens/s", "in flight", "CPU"),
        "remark",
    )
    numbers = heads[:-1]
    rows = map(_rate_row, rates)
    return Table.of_texts(heads, rows, "Requests per second", right=numbers, unwrapped=numbers)


def _rate_row(rate: RateSummary) -> tuple[str, ...]:
    remarks = {
        "client limit": bool(rate.client_limit),
        "not sustained": rate.is_sustained is False,
    }
    return (
        f"{rate.rate:g}",
        str(rate.requests),
        str(sum(rate.failures.values())),
        _number(rate.throughput),
        _number(rate.goodput),
        _number(rate.output_tokens),
        str(rate.in_flight),
        f"{rate.cpu:.0%}",
        ", ".join(remark for remark, holds in remarks.items() if holds),
    )


def _latency_table(rates: Sequence[RateSummary]) -> Table:
    heads = ("rate", "latency in ms", "samples", *PERCENTILE_NAMES)
    rows = [
        (
            f"{rate.rate:g}",
            metric.label,
            str(quantity.samples),
            *map(percentile_text, quantity.percentiles),
        )
        for rate in rates
        for metric, quantity in rate.quantities.items()
        if quantity.samples
    ]
    return Table.of_texts(heads, rows, "Latencies", right=heads[2:], unwrapped=heads[:3])


def _time_table(report: BenchReport) -> Iterator[Table]:
    """What the chart over the run shows, for pages."""
    rates = [rate for rate in report.rates if rate.quantities and rate.answered]
    if not rates:
        return
    width = report.load.seconds / PARTS
    heads = ("seconds since the warm-up", *(f"ms at {rate.rate:g}/s" for rate in rates))
    rows = [
        (
            f"{part * width:.3g} to {(part + 1) * width:.3g}",
            *(_UNKNOWN if time is None else _ms(time) for time in times),
        )
        for part, times in enumerate(zip(*(rate.slowest for rate in rates), strict=True))
    ]
    yield Table.of_texts(heads, rows, OVER_TIME, right=heads[1:])


def percentile_text(found: Percentile | None) -> str:
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
