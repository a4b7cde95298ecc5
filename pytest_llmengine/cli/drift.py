"""``llmengine drift``: record what a server answers, and check whether it still answers so."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pytest_llmengine.cli import drift_options as shared
from pytest_llmengine.cli.options import stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift import Baseline
    from pytest_llmengine.targets import Session

app = typer.Typer(
    help="Recognise whether a server still runs the same model, with a known error rate.",
    no_args_is_help=True,
)


class DriftTierName(StrEnum):
    """What a check compares; auto is decided by what the server shows.

    For weights, the target is in-process vLLM, which becomes the reference of other servers.
    """

    AUTO = "auto"
    LOGPROBS = "logprobs"
    TEXT = "text"
    WEIGHTS = "weights"


@app.command()
def record(  # noqa: PLR0913 - one option each
    target: Annotated[str, typer.Argument(metavar="TARGET", help=shared.TARGET_HELP)],
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The file: .jsonl or .jsonl.gz."),
    ],
    url: shared.Url = None,
    model: shared.Model = None,
    config: shared.Config = None,
    tier: Annotated[DriftTierName, typer.Option(help="What to compare.")] = DriftTierName.AUTO,
    rounds: Annotated[
        int, typer.Option(min=1, help="The rounds over all prompts in each session.")
    ] = 5,
    sessions: Annotated[int, typer.Option(min=1, help="The number of sessions.")] = 4,
    spread: shared.Spread = "0s",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="The energy distance up to which a difference counts as none, in prompts.",
            show_default="none",
        ),
    ] = None,
    seed: shared.Seed = None,
) -> None:
    """Record the answers of a server that is known to be right.

    The prompts are chosen by what the server shows. Then they are asked in sessions of rounds, in
    random order and with 1, 4 or 16 requests in flight. For --tier weights, TARGET is in-process
    vLLM (vllm_local) with the weights that servers are to be checked for.
    """
    from pytest_llmengine.drift import DriftTier, save
    from pytest_llmengine.drift.answers import RoundKind
    from pytest_llmengine.drift.baseline import check_path
    from pytest_llmengine.drift.live import Effort
    from pytest_llmengine.drift.live import record as record_baseline
    from pytest_llmengine.drift.reference_check import loaded, record_reference
    from pytest_llmengine.drift.render import baseline_lines
    from pytest_llmengine.drift.search import search

    check_path(output)
    effort = Effort(sessions, dict.fromkeys(RoundKind, rounds), seconds(spread, "--spread"), seed)
    wanted = None if tier is DriftTierName.AUTO else DriftTier(tier)
    if wanted is DriftTier.WEIGHTS and effort.spread:
        raise typer.BadParameter(
            "a reference has no load that changes with time; leave it out", param_hint="--spread"
        )
    name, address = _split_target(target, url)
    with open_target(name, address, model, config) as session, progress("record") as on_progress:
        if wanted is DriftTier.WEIGHTS:
            note = ""
            with loaded(session) as reference:
                baseline = record_reference(
                    session, reference, effort=effort, tolerance=tolerance, on_progress=on_progress
                )
        else:
            found = search(session.engine, wanted, effort.chance, on_progress)
            note = found.note
            baseline = record_baseline(
                session,
                found.probe,
                url=address,
                effort=effort,
                tolerance=tolerance,
                search_requests=found.requests,
                on_progress=on_progress,
            )
    save(baseline, output)
    for line in baseline_lines(baseline, note):
        typer.echo(line)
    typer.echo(f"saved in {output}")


@app.command()
def check(  # noqa: PLR0913 - one option each
    file: shared.File,
    target: shared.Target = None,
    *,
    url: shared.Url = None,
    model: shared.Model = None,
    config: shared.Config = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In-process vLLM that judges sampled tokens, for a file of tier weights.",
            show_default="that of the file",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="The false-alarm rate of the whole check.")
    ] = 0.01,
    rounds: Annotated[
        int, typer.Option(min=1, help="The rounds over all prompts in each session.")
    ] = 10,
    sessions: Annotated[int, typer.Option(min=1, help="The number of sessions.")] = 1,
    spread: shared.Spread = "0s",
    seed: shared.Seed = None,
    report: shared.Reports = None,
) -> None:
    """Compare a server with a baseline.

    Exit status: 0 if it is the same, 1 if it has changed, 2 if this cannot be told.
    """
    from pytest_llmengine.drift import DriftTier, load
    from pytest_llmengine.drift.live import Effort, checked_rounds
    from pytest_llmengine.drift.live import check as check_server
    from pytest_llmengine.drift.reference_check import check_by_reference, loaded
    from pytest_llmengine.drift.render import print_report, write_report
    from pytest_llmengine.reports.page import check_path

    for path in report or ():
        check_path(path)
    baseline = load(file)
    if reference is not None and baseline.probe.tier is not DriftTier.WEIGHTS:
        raise typer.BadParameter(
            f"{file} is of tier {baseline.probe.tier}, which needs none", param_hint="--reference"
        )
    effort = Effort(sessions, checked_rounds(rounds), seconds(spread, "--spread"), seed)
    with ExitStack() as stack:
        session = stack.enter_context(open_same(baseline, target, url, model, config))
        on_progress = stack.enter_context(progress("check"))
        how: Any = {"alpha": alpha, "effort": effort, "on_progress": on_progress}
        if baseline.probe.tier is DriftTier.WEIGHTS:
            name = reference or baseline.facts.name
            weights = baseline.facts.model if config is None else None  # else those of the engine
            judge = stack.enter_context(
                loaded(stack.enter_context(open_target(name, None, weights, config)))
            )
            found = check_by_reference(session, judge, baseline, **how)
        else:
            found = check_server(session, baseline, **how)
    print_report(found, stdout())
    for path in report or ():
        write_report(found, path)
    raise typer.Exit(found.verdict.exit_status)


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds(text: str, option: str) -> float:
    """The seconds of a time such as 90s, 30m or 8h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not a time; write a number and s, m or h, such as 30m", param_hint=option
        )
    return float(found[1]) * _SECONDS[found[2]]


def _split_target(target: str, url: str | None) -> tuple[str, str | None]:
    """The engine's name and its address; the target may be an address."""
    return ("openai_compatible", target) if "://" in target else (target, url)


@contextmanager
def open_same(
    baseline: Baseline,
    target: str | None,
    url: str | None,
    model: str | None,
    config: Path | None,
) -> Iterator[Session]:
    """The server to compare with a baseline, by default the one that it was recorded from."""
    from pytest_llmengine.targets import TargetError

    facts = baseline.facts
    if target is None and facts.backend == "vllm_local":
        raise TargetError(
            f"{baseline.source} has the answers of a reference, which judges other servers: give "
            "the server to check, such as `vllm_api --url http://localhost:8000/v1`"
        )
    if target is None:
        name, url, model = facts.name, url or facts.url, model or facts.model
    else:
        name, url = _split_target(target, url)
    with open_target(name, url, model, config) as session:
        yield session


@contextmanager
def open_target(
    name: str, url: str | None, model: str | None, config: Path | None
) -> Iterator[Session]:
    """A live engine that is open inside of the block."""
    from pytest_llmengine.targets import Mode, Settings, open_session

    settings = Settings(engines=(name,), url=url, model=model, config=config, mode=Mode.LIVE)
    with open_session(name, settings) as session:
        yield session


@contextmanager
def progress(command: str) -> Iterator[OnProgress]:
    """A line on standard error that shows the current task."""
    with stderr().status(f"drift {command}") as status:

        def on_progress(task: str, done: int, total: int) -> None:
            status.update(f"{task}: {done} of {total}")

        yield on_progress
