"""Requests are sent by their schedule, and the numbers show what a user would have waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.bench.run import OfferedLoad, RateRun, offer
from pytest_llmengine.bench.samples import Metric, Objective
from pytest_llmengine.bench.summary import SecondHalf, summarise
from pytest_llmengine.bench.workload import Arrivals

from .virtual_loop import VirtualLoop, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from pytest_llmengine.bench.samples import BenchSample

    Now = Callable[[], float]
    Answer = Callable[[BenchSample, Now], Coroutine[Any, Any, None]]

LOAD = OfferedLoad(seconds=20.0, warm_up=1.0, arrivals=Arrivals.CONSTANT)


def measured(
    answer: Answer, rate: float = 50.0, load: OfferedLoad = LOAD, most: int = 10_000
) -> RateRun:
    """A run at a server that answers so, in virtual time."""
    times = load.times(rate)

    async def send(number: int, sample: BenchSample, now: Now) -> None:
        sample.sent = now()
        await answer(sample, now)
        sample.ended = now()

    samples = run(offer(times, send, most))
    return RateRun(rate, load, tuple(samples), cpu=0.1, is_full=len(samples) < len(times))


async def four_tokens(sample: BenchSample, now: Now) -> None:
    """A first token after 100 ms, and then three more, 20 ms apart."""
    sample.tokens = 4
    for pause in (0.1, 0.02, 0.02, 0.02):
        await asyncio.sleep(pause)
        sample.reads.append(now())


def values(found: RateRun, metric: Metric, *objectives: str) -> list[float | None]:
    """The percentiles of a metric."""
    summary = summarise(found, [Objective.of(text) for text in objectives])
    return [one and one.value for one in summary.quantities[metric].percentiles]


def test_known_times() -> None:
    """The latencies are those of the server, and the warm-up does not count."""
    found = measured(four_tokens)
    summary = summarise(found, [Objective.of("ttft=110ms"), Objective.of("itl=0.03")])

    assert values(found, Metric.TTFT) == pytest.approx([0.1] * 3)
    assert values(found, Metric.ITL) == pytest.approx([0.02] * 3)
    assert values(found, Metric.TPOT) == pytest.approx([0.02] * 3)
    assert values(found, Metric.E2E) == pytest.approx([0.16] * 3)
    assert values(found, Metric.SEND_DELAY) == pytest.approx([0.0] * 3, abs=1e-9)
    assert (summary.requests, summary.answered) == (1000, 1000)
    assert summary.throughput == pytest.approx(50, rel=0.01)
    assert summary.output_tokens == pytest.approx(200, rel=0.01)
    assert summary.goodput == summary.throughput
    assert summary.in_flight in {8, 9}  # one may end just when another begins
    assert summary.is_sustained
    assert summary.client_limit == ""
    assert summarise(found, [Objective.of("ttft=90ms")]).goodput == 0
    assert summarise(found, []).goodput is None
    busy = summarise(replace(found, cpu=0.9), [])
    assert busy.client_limit == "the client used 90% of a CPU core"
    assert busy.quantities == {}


def test_a_server_that_stops_for_a_second() -> None:
    """All requests of that second wait for its end; a client that waited would see one of them."""

    async def stopping(sample: BenchSample, now: Now) -> None:
        if 5 < now() < 6:
            await asyncio.sleep(6 - now())
        await four_tokens(sample, now)

    found = measured(stopping)

    slow = [sample.first_token()[0] for sample in found.samples if sample.first_token()[0] > 0.11]
    assert len(slow) == 49
    assert max(slow) == pytest.approx(1.08)
    assert summarise(found, [Objective.of("ttft=0.11")]).goodput == pytest.approx(
        (1000 - 49) / 20, rel=0.01
    )


@pytest.mark.parametrize(("busy", "is_bound"), [(1.0, False), (4.0, True)])
def test_time_in_which_the_client_is_busy_counts(busy: float, is_bound: bool) -> None:
    """A request that is sent late has waited since its time; many show that the client is busy."""

    async def blocking(sample: BenchSample, now: Now) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        if 5 < now() < 5.03:
            loop.now += busy  # the client does something else
        await four_tokens(sample, now)

    found = measured(blocking)
    summary = summarise(found, [])

    assert max(sample.send_delay for sample in found.samples) == pytest.approx(
        busy - 0.02, abs=0.01
    )
    late = max(found.samples, key=lambda sample: sample.send_delay)
    assert late.first_token() == [pytest.approx(late.send_delay + 0.1)]
    assert late.end_to_end() == [pytest.approx(late.send_delay + 0.16)]
    if is_bound:
        assert summary.client_limit.endswith("of 1000 requests were sent over 10 ms late")
        assert summary.quantities == {}
    else:
        assert values(found, Metric.SEND_DELAY)[0] == pytest.approx(0.0, abs=1e-9)
        assert summary.client_limit == ""


def test_a_client_that_may_send_no_more() -> None:
    """It stops, and says that it was the limit and not the server."""

    async def never(sample: BenchSample, now: Now) -> None:
        await asyncio.sleep(100)
        sample.error = "APITimeoutError (total)"

    summary = summarise(measured(never, most=64), [])

    assert summary.client_limit.startswith("64 requests were sent")
    assert summary.quantities == {}
    assert summary.throughput is None
    assert summary.is_sustained is None


def test_few_samples_have_no_percentiles() -> None:
    """Five answers are too few for percentiles, and so are their 15 gaps."""
    summary = summarise(measured(four_tokens, rate=0.25), [])

    assert summary.answered == 5
    assert all(
        one is None for quantity in summary.quantities.values() for one in quantity.percentiles
    )
    assert summary.quantities[Metric.ITL].samples == 15


def test_failures_are_slower_than_any_answer() -> None:
    """A server that refuses one request in five at once does not look faster."""

    async def refusing(sample: BenchSample, now: Now) -> None:
        if round(sample.scheduled * 50) % 5 == 0:
            sample.error, sample.message = "RateLimitError (HTTP 429)", "too many"
        else:
            await four_tokens(sample, now)

    found = measured(refusing)
    summary = summarise(found, [])

    assert values(found, Metric.TTFT) == [pytest.approx(0.1), inf, inf]
    assert summary.failures == {"RateLimitError (HTTP 429)": 200}
    assert summary.throughput == pytest.approx(40, rel=0.01)
    assert summary.is_sustained is False


def test_a_queue_that_grows() -> None:
    """At a rate above the server's, it is not sustained, and goodput is less than throughput."""
    free_at = 0.0

    async def queued(sample: BenchSample, now: Now) -> None:
        nonlocal free_at
        free_at = max(free_at, now()) + 0.025  # 40 answers per second
        await asyncio.sleep(free_at - now())
        sample.reads.append(now())

    found = measured(queued)
    summary = summarise(found, [Objective.of("ttft=1")])

    assert summary.second_half in {SecondHalf(500, 400, 0), SecondHalf(500, 401, 0)}
    assert not summary.is_sustained
    assert summary.throughput == pytest.approx(40, rel=0.01)
    assert summary.goodput == pytest.approx(8, abs=1)
    assert summary.without_usage == 1000
    assert summary.output_tokens is None
    assert summarise(found, [Objective.of("tpot=1")]).goodput is None
    assert values(found, Metric.TTFT)[2] is None
    assert list(summary.slowest) == sorted(summary.slowest)
    assert summary.slowest[-1] == pytest.approx(5.2, abs=0.1)


def test_answers_that_take_longer_than_the_warm_up() -> None:
    """The server gets busier for eight seconds, but a queue does not grow."""

    async def slow(sample: BenchSample, now: Now) -> None:
        sample.tokens = 2
        for _ in range(2):
            await asyncio.sleep(4)
            sample.reads.append(now())

    summary = summarise(measured(slow), [])

    assert summary.is_sustained
    assert summary.answer_time == pytest.approx(8)
    assert summary.throughput == pytest.approx(50 * 13 / 20, rel=0.01)


def test_answers_that_come_all_at_once() -> None:
    """They have a time to first token, and no times between tokens."""

    async def at_once(sample: BenchSample, now: Now) -> None:
        sample.tokens = 4
        await asyncio.sleep(0.1)
        sample.reads.append(now())

    found = measured(at_once)
    summary = summarise(found, [])

    assert summary.in_one_read == 1000
    assert summary.quantities[Metric.ITL].samples == summary.quantities[Metric.TPOT].samples == 0
    assert values(found, Metric.TTFT) == pytest.approx([0.1] * 3)


def test_few_late_requests() -> None:
    """Less than ten do not make the client the limit, however few requests there are."""

    async def blocking(sample: BenchSample, now: Now) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        if sample.scheduled == 2.0:
            loop.now += 9.5  # nine others are late
        await four_tokens(sample, now)

    summary = summarise(measured(blocking, rate=1.0), [])

    assert summary.client_limit == ""
    assert summary.is_sustained


def test_poisson_arrivals() -> None:
    """They depend on the seed only, and their gaps vary as much as those of random arrivals."""
    load, other = OfferedLoad(1000.0, 0.0), OfferedLoad(1000.0, 0.0, seed=1)
    times = load.times(10.0)
    later_start = OfferedLoad(1000.0, 5.0).times(10.0)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)

    assert times == load.times(10.0) != other.times(10.0)
    assert later_start[-len(times) :] == [time + 5.0 for time in times]
    assert len(times) == pytest.approx(10_000, abs=400)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.1)
