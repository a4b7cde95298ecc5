"""``llmengine drift watch`` and ``drift accept``: repeated looks at one server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_llmengine.cli import drift_options as shared  # noqa: TC001 - typer reads the annotations
from pytest_llmengine.cli.drift import open_same, progress, seconds
from pytest_llmengine.cli.options import stdout

_Journal = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The journal of the looks (JSON Lines).",
        show_default="beside the baseline: FILE.journal.jsonl",
    ),
]


def watch(  # noqa: PLR0913 - one option each
    file: shared.File,
    target: shared.Target = None,
    *,
    url: shared.Url = None,
    model: shared.Model = None,
    config: shared.Config = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.5,
            help="The false-alarm rate of all looks together; the first look decides it.",
            show_default="0.01",
        ),
    ] = None,
    journal: _Journal = None,
    seed: shared.Seed = None,
    report: shared.Reports = None,
) -> None:
    """Look at a server once more; the false-alarm rate holds for all looks together.

    Run it every night, for instance. A look asks as much as one session of the baseline. After an
    alarm every look says so, until `drift accept` records a new baseline.

    Exit status: 0 if it is the same, 1 if it has changed, 2 if this cannot be told.
    """
    from pytest_llmengine.drift import load
    from pytest_llmengine.drift.journal import journal_of
    from pytest_llmengine.drift.live_watch import watch as look_once
    from pytest_llmengine.drift.watch_page import print_watch, write_watch
    from pytest_llmengine.reports.page import check_path

    paths = report or []
    for path in paths:
        check_path(path)
    baseline = load(file)
    with (
        open_same(baseline, target, url, model, config) as session,
        progress("watch") as on_progress,
    ):
        found = look_once(
            session,
            baseline,
            journal or journal_of(file),
            alpha=alpha,
            seed=seed,
            on_progress=on_progress,
        )
    print_watch(found, stdout())
    for path in paths:
        write_watch(found, path)
    raise typer.Exit(found.verdict.exit_status)


def accept(  # noqa: PLR0913 - one option each
    file: shared.File,
    target: shared.Target = None,
    *,
    url: shared.Url = None,
    model: shared.Model = None,
    config: shared.Config = None,
    alpha: Annotated[
        float,
        typer.Option(
            min=1e-6, max=0.5, help="The false-alarm rate of all looks at the new baseline."
        ),
    ] = 0.01,
    sessions: Annotated[
        int | None,
        typer.Option(min=1, help="The number of sessions.", show_default="that of the old one"),
    ] = None,
    spread: shared.Spread = "0s",
    journal: _Journal = None,
    seed: shared.Seed = None,
) -> None:
    """Record a new baseline in place of FILE, with the same prompts, since a change is wanted.

    The journal keeps the looks until now, and begins anew.
    """
    from pytest_llmengine.drift import load
    from pytest_llmengine.drift.journal import journal_of
    from pytest_llmengine.drift.live import Effort
    from pytest_llmengine.drift.live_watch import accept as accept_server
    from pytest_llmengine.drift.render import baseline_lines
    from pytest_llmengine.drift.watch import rounds_of

    old = load(file)
    count = sessions or len(old.sessions)
    effort = Effort(count, rounds_of(old), seconds(spread, "--spread"), seed)
    with (
        open_same(old, target, url, model, config) as session,
        progress("accept") as on_progress,
    ):
        new = accept_server(
            session,
            old,
            file,
            journal or journal_of(file),
            url=old.facts.url if target is None and url is None else url,
            effort=effort,
            alpha=alpha,
            on_progress=on_progress,
        )
    for line in baseline_lines(new, "those of the old baseline"):
        typer.echo(line)
    typer.echo(f"saved in {file}")
