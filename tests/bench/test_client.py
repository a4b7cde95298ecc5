"""The client that measures, at real servers: what it notes of answers and of failures."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import Fault, Load, ManualClock, MockServer, Script
from pytest_llmengine.bench.client import BenchClient
from pytest_llmengine.bench.run import OfferedLoad, answer_time, run_rate
from pytest_llmengine.bench.samples import BenchSample
from pytest_llmengine.bench.summary import summarise
from pytest_llmengine.bench.workload import Arrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def client_of(server: MockServer, timeout: float = 10.0) -> Iterator[BenchClient]:
    """A client of the server."""
    config = EngineConfig(backend="openai_compatible", model=server.model, endpoint=server.root_url)
    with config.engine as engine:
        yield BenchClient(engine, SamplingParams(max_tokens=3), timeout)


def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_times_of_a_stream() -> None:
    """They are the times at which the server sent: it begins after 0.5 s, a token takes 0.25 s."""
    clock, sample = ManualClock(), BenchSample(scheduled=0.0)
    load = Load(time_to_first_token=0.5, tokens_per_second=4)
    with MockServer(load=load, clock=clock) as server, client_of(server) as client:
        sending = threading.Thread(
            target=client.run,
            args=(client.send(client.request("Hello"), sample, lambda: clock.now),),
        )
        sending.start()
        clock.wait_for_sleepers(1)
        clock.advance(0.5)
        for number in range(1, 4):
            clock.wait_for_sleepers(1)
            clock.advance(0.25)
            until(lambda number=number: len(sample.reads) == number)  # type: ignore[misc]
        for _ in ("the finish reason", "the usage", "the end"):
            clock.wait_for_sleepers(1)
            clock.advance(0.25)
        sending.join(10)

    assert sample.error == ""
    assert sample.sent == 0.0
    assert sample.reads == [0.75, 1.0, 1.25]
    assert sample.ended == 2.0
    assert sample.tokens == 3


def test_a_refusal_is_not_repeated() -> None:
    """A 429 is the failure of its request alone, which is sent once."""
    load = OfferedLoad(seconds=0.1, warm_up=0.0, arrivals=Arrivals.CONSTANT)
    with MockServer(script=Script(faults=[Fault(status=429)] * 2)) as server:
        with client_of(server) as client:
            run = run_rate(client, 50.0, load, ["Hello"] * 5)
        calls = len(server.calls)

    summary = summarise(run, [])
    assert summary.failures == {"RateLimitError (HTTP 429)": 2}
    assert summary.answered == 3
    assert calls == 5


@pytest.mark.parametrize(
    ("fault", "timeout", "kind"),
    [
        (Fault(stall_after=2), 0.2, "APITimeoutError (total)"),
        (Fault(cut_after=2), 10, "APIConnectionError"),
        (Fault(content_type="application/json"), 10, "UnexpectedResponseError"),
    ],
    ids=["stalled", "cut", "not a stream"],
)
def test_failures(fault: Fault, timeout: float, kind: str) -> None:
    """Each has the name of its kind, and the sample has an end."""
    sample = BenchSample(0.0)
    with MockServer(script=Script(faults=[fault])) as server, client_of(server, timeout) as client:
        client.run(client.send(client.request("Hello"), sample, time.monotonic))

    assert sample.error == kind
    assert sample.message
    assert sample.ended is not None
    assert not sample.is_answered


def test_time_of_one_answer() -> None:
    """It is measured before the run, and is unknown if the answer fails."""
    with (
        MockServer(script=Script(faults=[Fault(status=429)])) as server,
        client_of(server) as client,
    ):
        assert answer_time(client, "Hello") is None
        assert answer_time(client, "Hello") > 0
        assert len(server.calls) == 2


def test_an_interrupt_ends_the_requests() -> None:
    """Requests that are in flight are cancelled with the run."""
    sample = BenchSample(0.0)

    async def cancelled(client: BenchClient) -> None:
        sending = client.send(client.request("Hello"), sample, time.monotonic)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sending, 0.1)

    with (
        MockServer(script=Script(faults=[Fault(stall_after=0)])) as server,
        client_of(server) as client,
    ):
        client.run(cancelled(client))

    assert sample.ended is None
