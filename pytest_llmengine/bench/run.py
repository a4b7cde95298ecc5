"""A run: requests at several rates, one rate after the other, and what the client itself costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

from llmengine import EngineConfig
from llmengine.transport.loop import PROCESS_CONCURRENCY
from llmengine.types.errors import UnexpectedResponseError
from llmengine.types.sampling import SamplingParams
from pytest_llmengine.bench.client import BenchClient
from pytest_llmengine.bench.samples import BenchSample
from pytest_llmengine.bench.workload import Arrivals, arrival_times

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from typing import Any

    from llmengine.types.request import Prompt

    # Called with the number of the request, its sample, and the time since the start.
    Send = Callable[[int, BenchSample, Callable[[], float]], Coroutine[Any, Any, None]]
    # Called with the number of requests that were sent, and with that of all.
    OnSent = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """How long a rate lasts, after a warm-up that is not measured, and how requests arrive."""

    seconds: float = 30.0
    warm_up: float = 3.0
    arrivals: Arrivals = Arrivals.POISSON
    seed: int = 0

    @property
    def end(self) -> float:
        """The end of the measured time, in seconds from the start of the warm-up."""
        return self.warm_up + self.seconds

    def times(self, rate: float) -> list[float]:
        """The times of the requests, in seconds from the start of the warm-up.

        Those of the measured time do not depend on how long the warm-up is.
        """
        before = arrival_times(rate, self.warm_up, self.arrivals, f"warm-up {self.seed}")
        measured = arrival_times(rate, self.seconds, self.arrivals, f"arrivals {self.seed}")
        return [*before, *(self.warm_up + time for time in measured)]


@dataclass(frozen=True, slots=True)
class RateRun:
    """What was measured at one rate: all samples, with those of the warm-up.

    ``cpu`` is the client's CPU time per second. ``is_full`` says that requests were left out,
    because the client had as many in flight as it may have.
    """

    rate: float
    load: OfferedLoad
    samples: tuple[BenchSample, ...]
    cpu: float
    is_full: bool = False


def not_shown(sent: int, total: int) -> None:
    """Show no progress."""


async def offer(
    times: Sequence[float], send: Send, most: int, on_sent: OnSent = not_shown
) -> list[BenchSample]:
    """Send requests at these times, whether earlier ones are answered or not, and await all.

    It stops if `most` are in flight, so that there are fewer samples than times.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()

    def now() -> float:
        return loop.time() - start

    samples: list[BenchSample] = []
    in_flight: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:
        for number, time in enumerate(times):
            await asyncio.sleep(max(0.0, time - now()))
            if len(in_flight) >= most:
                break
            sample = BenchSample(time)
            samples.append(sample)
            task = group.create_task(send(number, sample, now))
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)
            on_sent(number + 1, len(times))
    return samples


def answer_time(client: BenchClient, prompt: Prompt) -> float | None:
    """How long the server takes for one answer while it does nothing else; None if it fails."""

    async def work() -> float | None:
        (sample,) = await offer(
            [0.0], lambda _, sample, now: client.send(client.request(prompt), sample, now), most=1
        )
        return sample.end_to_end()[0] if sample.is_answered else None

    return client.run(work())


def run_rate(
    client: BenchClient,
    rate: float,
    load: OfferedLoad,
    prompts: Iterable[Prompt],
    on_sent: OnSent = not_shown,
) -> RateRun:
    """Send requests at a rate; returns when all are answered or have failed."""
    times = load.times(rate)
    requests = [client.request(prompt) for prompt in islice(prompts, len(times))]

    async def work() -> RateRun:
        loop = asyncio.get_running_loop()
        # The client's work is done in the thread of this loop. The wait for the last answers, in
        # which it does little, does not count.
        marks = [(loop.time(), thread_time())]

        def mark() -> None:
            marks.append((loop.time(), thread_time()))

        timer = loop.call_later(load.end, mark)
        try:
            samples = await offer(
                times,
                lambda number, sample, now: client.send(requests[number], sample, now),
                PROCESS_CONCURRENCY,
                on_sent,
            )
        finally:
            timer.cancel()
        mark()
        (started, before), (ended, after) = marks[:2]
        cpu = (after - before) / (ended - started)
        return RateRun(rate, load, tuple(samples), cpu, is_full=len(samples) < len(times))

    return client.run(work())


EVENTS = 16
EVENT_SECONDS = 0.005
"""The minimal server sends each event of an answer after that time."""


def run_overhead(rate: float, seconds: float) -> RateRun:
    """The same client at a server that does nothing but send events at known times.

    What is measured beyond these times is due to the client, to that server and to this machine.
    """
    load = OfferedLoad(seconds, seconds / 4, Arrivals.CONSTANT)
    with _minimal_server() as url:
        config = EngineConfig(backend="openai_compatible", model="m", endpoint=url, cold_start=None)
        with config.engine as engine:
            client = BenchClient(engine, SamplingParams(), timeout=10.0)
            return run_rate(client, rate, load, repeat("Hello"))


@contextmanager
def _minimal_server() -> Iterator[str]:
    """The address of the minimal server, which is another process."""
    program = Path(__file__).with_name("stream_server.py")
    command = [sys.executable, "-P", program, EVENTS, EVENT_SECONDS, 1]
    with subprocess.Popen(  # noqa: S603 - our own command line
        list(map(str, command)), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if not (url := process.stdout.readline().strip()):
                raise UnexpectedResponseError("the minimal server ended before it had an address")
            yield url
        finally:
            process.kill()
