"""``llmengine bench``: the latencies and the throughput of a server at several rates."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from pytest_llmengine.cli.options import stdout

DEFAULT_RATES = (1.0, 4.0, 16.0)


class ArrivalsName(StrEnum):
    """How the times between two requests are chosen."""

    POISSON = "poisson"
    CONSTANT = "constant"


class LengthName(StrEnum):
    """The length of the built-in prompts."""

    SHORT = "short"
    MEDIUM = "medium"
    LONG = "long"


def bench(  # noqa: PLR0913 - one option each
    *,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A backend, or an engine of the engines file.",
            show_default="openai_compatible with --url, else embedded",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", "--engine-url", help="The server's address.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--engine-model",
            help="The model to ask for.",
            show_default="the server's only one",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            min=0.001,
            max=10_000,
            help="The request rate, in requests per second; repeatable.",
            show_default="1, then 4, then 16",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="The seconds to measure each rate.")
    ] = 30,
    warm_up: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=3_600,
            help="The seconds before that, which do not count.",
            show_default="3, or twice the time of an answer",
        ),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TIME",
            help="A service level objective for goodput: the longest ttft, itl, tpot or e2e of an "
            "answer, such as ttft=0.5 or itl=50ms; repeatable.",
        ),
    ] = None,
    arrivals: Annotated[
        ArrivalsName, typer.Option(help="How the times between requests are chosen.")
    ] = ArrivalsName.POISSON,
    length: Annotated[
        LengthName, typer.Option(help="Built-in prompts of about 20, 200 or 1,000 words.")
    ] = LengthName.MEDIUM,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="The chats to send, in OpenAI's batch format, in place of the built-in prompts.",
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="The largest number of tokens of an answer.")
    ] = 64,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, max=86_400, help="The seconds after which an answer has failed."),
    ] = 60,
    seed: Annotated[int, typer.Option(help="Another seed gives other times and prompts.")] = 0,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Also write the report: .html with charts, .json or .md; repeatable.",
        ),
    ] = None,
) -> None:
    """Measure what requests to a server cost at several rates: latencies, throughput, goodput.

    Requests are sent at times that are drawn before the run, whether earlier ones are answered or
    not. The client first measures itself at a server that does nothing. Exit status: 0 if any
    request was answered, else 1.
    """
    from pytest_llmengine.bench.render import print_report, write_report
    from pytest_llmengine.bench.samples import objectives_of
    from pytest_llmengine.bench.workload import Arrivals, PromptLength
    from pytest_llmengine.cli.bench_run import BenchSettings, run_bench
    from pytest_llmengine.cli.errors import INTERRUPTED
    from pytest_llmengine.reports.page import check_path
    from pytest_llmengine.targets import Mode, Settings

    for path in report or ():
        check_path(path)
    name = engine or ("openai_compatible" if url else "embedded")
    found = run_bench(
        name,
        Settings(engines=(name,), url=url, model=model, config=config, mode=Mode.LIVE),
        BenchSettings(
            rates=tuple(rate or DEFAULT_RATES),
            seconds=seconds,
            warm_up=warm_up,
            arrivals=Arrivals(arrivals),
            seed=seed,
            objectives=objectives_of(slo or ()),
            length=PromptLength(length),
            file=prompts,
            max_tokens=max_tokens,
            timeout=timeout,
        ),
    )
    print_report(found, stdout())
    for path in report or ():
        write_report(found, path)
    if found.is_interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if found.is_answered else 1)
