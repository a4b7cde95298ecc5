"""The run of ``llmengine bench``: open the engine, measure the client, and then every rate."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmengine.types.errors import InvalidFieldError
from llmengine.types.sampling import SamplingParams
from pytest_llmengine.bench.client import BenchClient
from pytest_llmengine.bench.report import BenchReport
from pytest_llmengine.bench.run import OfferedLoad, answer_time, run_overhead, run_rate
from pytest_llmengine.bench.summary import Overhead, summarise
from pytest_llmengine.bench.workload import WORDS, built_in_prompts, prompts_of_file
from pytest_llmengine.cli.options import stderr
from pytest_llmengine.cli.progress import fetch_missing
from pytest_llmengine.targets import config_named, open_session
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from pytest_llmengine.bench.samples import Objective
    from pytest_llmengine.bench.summary import RateSummary
    from pytest_llmengine.bench.workload import Arrivals, PromptLength
    from pytest_llmengine.targets import Settings


WARM_UP = 3.0
"""The seconds of the warm-up if the user names none, ..."""
WARM_UP_ANSWERS = 2
"""... or the time of so many answers if that is longer, so that answers end when others begin."""
OVERHEAD_RATE = 100.0
"""The client measures itself at this rate, or at the highest one of the run, ..."""
OVERHEAD_SECONDS = 2.0
"""... for so many seconds, or for as many as each rate of the run."""
MOST_REQUESTS = 100_000
"""So many requests and their times are held in memory at one rate."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to send; ``file`` has the prompts, else there are built-in ones of that length.

    With no ``warm_up``, it is as long as the server needs.
    """

    rates: tuple[float, ...]
    seconds: float
    warm_up: float | None
    arrivals: Arrivals
    seed: int
    objectives: tuple[Objective, ...]
    length: PromptLength
    file: Path | None
    max_tokens: int
    timeout: float

    def load(self, warm_up: float) -> OfferedLoad:
        """The load after a warm-up of so many seconds."""
        return OfferedLoad(self.seconds, warm_up, self.arrivals, self.seed)


def run_bench(name: str, target: Settings, settings: BenchSettings) -> BenchReport:
    """Measure the engine of that name, with progress on standard error.

    After an interrupt, the report has the rates that were measured before. Raises
    InvalidFieldError for a rate without requests, or with too many.
    """
    if settings.file is None:
        prompts = built_in_prompts(settings.length, settings.seed)
        asked = f"built-in, {settings.length}, about {WORDS[settings.length]} words"
    else:
        prompts, asked = prompts_of_file(settings.file), str(settings.file)
    for rate in settings.rates:
        _check_requests(rate, settings)
    _fetch_model(name, target)
    console = stderr()
    rates: list[RateSummary] = []
    interrupted = False
    date = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with open_session(name, target) as session:
        sampling = SamplingParams(max_tokens=settings.max_tokens)
        client = BenchClient(session.engine, sampling, settings.timeout)
        with console.status("measuring this client, and one answer"):
            rate = max(OVERHEAD_RATE, *settings.rates)
            overhead = Overhead.of(run_overhead(rate, min(OVERHEAD_SECONDS, settings.seconds)))
            warm_up = settings.warm_up
            if warm_up is None:
                answer = answer_time(client, next(prompts)) or 0.0
                warm_up = max(WARM_UP, WARM_UP_ANSWERS * answer)
        load = settings.load(warm_up)
        _announce(settings, load, console)
        try:
            for rate in settings.rates:
                with _progress(rate, console) as on_sent:
                    run = run_rate(client, rate, load, prompts, on_sent)
                rates.append(summarise(run, settings.objectives))
        except KeyboardInterrupt:
            if not rates:
                raise
            interrupted = True
        return BenchReport(
            target=session.describe(),
            model=session.engine.model,
            prompts=asked,
            max_tokens=settings.max_tokens,
            load=load,
            objectives=settings.objectives,
            overhead=overhead,
            rates=tuple(rates),
            date=date,
            is_interrupted=interrupted,
        )


def _check_requests(rate: float, settings: BenchSettings) -> None:
    """Raise InvalidFieldError unless a rate has requests in the measured time, and not too many."""
    if rate * settings.seconds > MOST_REQUESTS:
        raise InvalidFieldError(
            f"--rate {rate:g}: {rate * settings.seconds:,.0f} requests come in "
            f"{settings.seconds:g} s, and at most {MOST_REQUESTS:,} are sent; give fewer --seconds"
        )
    if not settings.load(0.0).times(rate):
        raise InvalidFieldError(
            f"--rate {rate:g}: no request comes in {settings.seconds:g} s; give more --seconds, or "
            "a higher rate"
        )


def _fetch_model(name: str, target: Settings) -> None:
    """Download the embedded engine's model with a progress bar, if it is missing."""
    config = config_named(name, target.config, target.cassettes)
    if config.backend == "embedded" and not target.url:
        fetch_missing(target.model or config.model or facts(config.backend).model)


def _announce(settings: BenchSettings, load: OfferedLoad, console: Console) -> None:
    """Say what the run will cost before it begins."""
    requests = sum(len(load.times(rate)) for rate in settings.rates)
    console.print(
        f"{requests} requests of at most {settings.max_tokens} tokens in "
        f"{len(settings.rates) * load.end:.0f} s, and the time until all are answered",
        soft_wrap=True,
    )


@contextmanager
def _progress(rate: float, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A line on standard error that shows the present rate."""
    if not console.is_terminal:
        console.print(f"{rate:g} requests per second")
    with console.status(f"{rate:g} requests per second") as status:

        def on_sent(sent: int, total: int) -> None:
            rest = "" if sent < total else "; waiting for the last answers"
            status.update(f"{rate:g} requests per second: {sent} of {total} sent{rest}")

        yield on_sent
