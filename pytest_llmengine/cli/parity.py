"""``llmengine parity``: compare a candidate with a baseline, relative to the baseline's noise."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_llmengine.cli.options import stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.parity import Choices, Live, ParityReport, Selection, Side

_SIDE = "A backend, an engine of the engines file, or a file written by --save."
_FACT = (
    "A fact that the server does not report: version, weights, dtype, prefix_caching or "
    "batch_invariance."
)


def parity(  # noqa: PLR0913 - one option each
    *,
    baseline: Annotated[str, typer.Option(help=_SIDE)],
    candidate: Annotated[
        str | None, typer.Option(help=f"{_SIDE} Without it, the baseline is only saved.")
    ] = None,
    baseline_url: Annotated[str | None, typer.Option(help="The baseline's address.")] = None,
    candidate_url: Annotated[str | None, typer.Option(help="The candidate's address.")] = None,
    baseline_model: Annotated[str | None, typer.Option(help="The baseline's model.")] = None,
    candidate_model: Annotated[str | None, typer.Option(help="The candidate's model.")] = None,
    config: Annotated[Path | None, typer.Option(help="The engines file (YAML).")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts (JSON Lines).")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only prompts of this kind; repeatable.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The number of prompts, spread over the kinds.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The token limit of every prompt.")
    ] = None,
    batch: Annotated[
        int,
        typer.Option(min=1, help="How many prompts are sent at once at most; a file has its own."),
    ] = 8,
    passes: Annotated[
        int,
        typer.Option(min=2, help="How often the baseline is sent the prompts, if answers differ."),
    ] = 4,
    candidate_passes: Annotated[
        int, typer.Option(min=1, help="The same for the candidate; fewer than the baseline's.")
    ] = 2,
    alpha: Annotated[
        float,
        typer.Option(
            min=0.0001, max=0.5, help="The false-alarm rate of the whole run, all rows together."
        ),
    ] = 0.01,
    save: Annotated[
        Path | None, typer.Option(help="Save the baseline to this file, .jsonl or .jsonl.gz.")
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Also write the report to this file, .json, .md or .html; repeatable."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="CAUSE", help="Compare even if this cause differs; repeatable."),
    ] = None,
    baseline_fact: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help=f"{_FACT} Repeatable.")
    ] = None,
    candidate_fact: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="The same for the candidate.")
    ] = None,
    margin: Annotated[
        float,
        typer.Option(min=0, max=1, help="The share of prompts that may differ, not by chance."),
    ] = 0.0,
    rounds: Annotated[
        int,
        typer.Option(min=0, help="How often to measure the throughput, if both sides are live."),
    ] = 3,
) -> None:
    """Test whether two engines give the same answers, with a known false-alarm rate.

    Exit status: 0 if the candidate is equal within the noise, 1 if it diverges, 2 if the two
    cannot be compared.
    """
    from pytest_llmengine.cli.parity_sides import SideArguments, open_side
    from pytest_llmengine.parity import Choices, Selection

    _check_paths(save, report or ())
    _check_passes(passes, candidate_passes)
    selection = Selection(file=prompts, kinds=tuple(kind or ()), limit=limit, max_tokens=max_tokens)
    choices = Choices(
        allowed=_causes(allow or ()),
        alpha=alpha,
        margin=margin,
        passes=passes,
        candidate_passes=candidate_passes,
        rounds=rounds,
    )
    ours = SideArguments(baseline, baseline_url, baseline_model, tuple(baseline_fact or ()))
    with ExitStack() as stack:
        status = stack.enter_context(stderr().status("parity"))

        def on_progress(task: str, done: int, total: int) -> None:
            status.update(f"{task}: {done} of {total}")

        first = stack.enter_context(open_side(ours, config, batch, on_progress))
        if candidate is None:
            _save_only(first, selection, save, passes)
            return
        theirs = SideArguments(
            candidate, candidate_url, candidate_model, tuple(candidate_fact or ())
        )
        second = stack.enter_context(open_side(theirs, config, batch, on_progress))
        found = _compare(first, second, selection, choices, save)
    _output(found, report or ())


def _check_paths(save: Path | None, reports: Sequence[Path]) -> None:
    from pytest_llmengine.parity.side import check_path as check_saved
    from pytest_llmengine.reports.page import check_path

    if save is not None:
        check_saved(save)
    for path in reports:
        check_path(path)


def _check_passes(baseline: int, candidate: int) -> None:
    from pytest_llmengine.parity import ParityError

    if candidate >= baseline:
        raise ParityError(
            f"--candidate-passes is {candidate}, --passes is {baseline}; give the candidate fewer "
            "passes, since the test of equal numbers sees less"
        )


def _causes(names: Sequence[str]) -> tuple[str, ...]:
    from pytest_llmengine.parity import ParityError
    from pytest_llmengine.parity.causes import NAMES

    for name in names:
        if name not in NAMES:
            raise ParityError(f"there is no cause {name!r}; the causes are {', '.join(NAMES)}")
    return tuple(names)


def _save_only(baseline: Live | Side, selection: Selection, save: Path | None, passes: int) -> None:
    from pytest_llmengine import parity as sides

    if save is None or not isinstance(baseline, sides.Live):
        raise sides.ParityError(
            "there is nothing to compare with: give --candidate, or --save FILE to save the "
            "answers of a live baseline"
        )
    prompts = sides.choose(baseline, None, selection)
    side = baseline.measure(prompts, passes)
    sides.save(side, save)
    failed = sum(not answer.ok for answer in side.answers)
    typer.echo(f"{len(prompts)} prompts, {failed} failed; saved in {save}")


def _compare(
    baseline: Live | Side,
    candidate: Live | Side,
    selection: Selection,
    choices: Choices,
    save: Path | None,
) -> ParityReport:
    from pytest_llmengine import parity as sides

    prompts = sides.choose(baseline, candidate, selection)

    def save_baseline(side: Side) -> None:
        assert save is not None
        sides.save(side, save)

    on_baseline = None if save is None else save_baseline
    return sides.compare(baseline, candidate, prompts, choices, on_baseline)


def _output(found: ParityReport, paths: Sequence[Path]) -> None:
    from pytest_llmengine.parity import ParityVerdict
    from pytest_llmengine.parity.render import print_report, write_report

    print_report(found, stdout())
    for path in paths:
        write_report(found, path)
    raise typer.Exit(
        {ParityVerdict.EQUAL: 0, ParityVerdict.DIVERGES: 1, ParityVerdict.NONE: 2}[found.verdict]
    )
