"""What reports say, in words, in tables and as JSON."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import jsonschema
import pytest
import report_schema  # in tools/

from pytest_llmengine.bench.render import bench_page
from pytest_llmengine.bench.report import BenchReport
from pytest_llmengine.bench.run import OfferedLoad, RateRun, offer
from pytest_llmengine.bench.samples import Objective
from pytest_llmengine.bench.summary import Overhead, summarise
from pytest_llmengine.bench.workload import Arrivals
from pytest_llmengine.reports.page import to_html, to_markdown

from .virtual_loop import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.bench.samples import BenchSample

LOAD = OfferedLoad(seconds=20.0, warm_up=1.0, arrivals=Arrivals.CONSTANT)
OBJECTIVES = (Objective.of("ttft=0.5"), Objective.of("tpot=1"))


@pytest.fixture(scope="module")
def report() -> BenchReport:
    """A server that does ten answers per second, measured at five and at twenty per second.

    It sends no usage, each answer at once, and later a 429 to each tenth request.
    """
    runs = []
    for rate in (5.0, 20.0):
        free_at = 0.0

        async def send(number: int, sample: BenchSample, now: Callable[[], float]) -> None:
            nonlocal free_at
            sample.sent = now()
            if number >= 100 and number % 10 == 0:
                sample.error, sample.message = "RateLimitError (HTTP 429)", "too many"
            else:
                free_at = max(free_at, now()) + 0.1
                await asyncio.sleep(free_at - now())
                sample.reads.append(now())
            sample.ended = now()

        samples = run(offer(LOAD.times(rate), send, most=1000))
        runs.append(RateRun(rate, LOAD, tuple(samples), cpu=0.1))
    return BenchReport(
        target="live at http://127.0.0.1:8000/v1",
        model="m",
        prompts="built-in",
        max_tokens=8,
        load=LOAD,
        objectives=OBJECTIVES,
        overhead=Overhead.of(runs[0]),
        rates=tuple(summarise(run, OBJECTIVES) for run in runs),
        date="2026-11-28T00:00:00Z",
    )


def test_words(report: BenchReport) -> None:
    """It says what was not sustained, what could not be measured and why, and what failed."""
    text = to_markdown(bench_page(report))

    assert "answers/s, at 20/s; not sustained: 20/s" in text
    assert "at 20/s: the queue grew: in the second half 200 requests came and" in text
    assert "at 5/s: the queue grew" not in text
    assert "467 of 467 answers have no usage, so their tokens cannot be counted" in text
    assert "no time per output token, no goodput" in text
    assert "467 of 467 answers came all at once" in text
    assert "at 20/s: 32 failed, RateLimitError (HTTP 429), such as: too many" in text


def test_json(report: BenchReport) -> None:
    """It has the published schema, and a null where failures are in the way."""
    written = json.loads(report.to_json())

    jsonschema.validate(written, json.loads(report_schema.BENCH_SCHEMA.read_text("utf-8")))
    assert [rate["sustained"] for rate in written["rates"]] == [True, False]
    latency = written["rates"][1]["latencies"]["e2e"]
    assert latency["p90"]["high"] is None
    assert latency["p99"] is None
    assert written["rates"][0]["without_usage"] == 99


def test_the_published_schema_is_fresh() -> None:
    """``python tools/report_schema.py`` writes it."""
    assert report_schema.BENCH_SCHEMA.read_text("utf-8") == report_schema.bench_schema_text()


def test_tables_have_what_charts_show(report: BenchReport) -> None:
    """Each point of a chart is a number in a table, for readers who do not see the chart."""
    page = bench_page(report)
    html = to_html(page)
    tables = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)

    assert html.count("<polyline") == 5  # throughput, two percentiles, and two rates over the run
    for rate in report.rates:
        assert f">{rate.throughput:.3g}<" in tables
        assert all(f">{1000 * time:.0f}<" in tables for time in rate.slowest if time is not None)
    assert "requests per second" in html
    assert "seconds since the warm-up" in html
