"""Progress on standard error: of checks, mutants, the start of a container, and downloads."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from llmengine import FallbackConfig
from llmengine.embedded import models
from pytest_llmengine.cli.options import stderr
from pytest_llmengine.contract.jobs import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from llmengine import EngineConfig
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.contract.outcomes import Outcome
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.reports import CheckRecord

    OnCounted = Callable[[int, int], None]
    Run = Callable[[Check], CheckRecord]

# A bar is made only for a terminal: rich before 14.3 prints an empty line for a bar that it does
# not show.


def run_all(
    checks: Sequence[Check], run: Run, console: Console, *, jobs: int = 1
) -> Iterator[CheckRecord]:
    """Run the checks and yield their records in order, each as soon as it exists.

    Up to `jobs` checks run at the same time. Shows a bar on a terminal, else one line per group.
    After an interrupt, the caller has the records that were yielded before.
    """
    records = in_order([partial(run, check) for check in checks], jobs)
    if jobs == 1:
        records = map(run, checks)
    if console.is_terminal:
        return _with_bar(checks, records, console)
    return _with_lines(checks, records, console)


def _with_bar(
    checks: Sequence[Check], records: Iterator[CheckRecord], console: Console
) -> Iterator[CheckRecord]:
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(checks))
        for check in checks:
            bar.update(task, description=check.id)
            yield next(records)
            bar.advance(task)


def _with_lines(
    checks: Sequence[Check], records: Iterator[CheckRecord], console: Console
) -> Iterator[CheckRecord]:
    for group, members in groupby(checks, key=lambda check: check.group):
        counts: Counter[Outcome] = Counter()
        for _ in members:
            record = next(records)
            counts[record.outcome] += 1
            yield record
        listed = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        console.print(f"{group}: {listed}", soft_wrap=True)


@contextmanager
def count_progress(what: str, console: Console) -> Iterator[OnCounted]:
    """A function that shows how many of a number are done: a bar, else a line per tenth."""
    if not console.is_terminal:
        yield _tenths(what, console)
        return
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn(what))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tenths(what: str, console: Console) -> OnCounted:
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := 10 * done // total) > shown:
            shown = tenth
            console.print(f"{done} of {total} {what}", soft_wrap=True)

    return report


@contextmanager
def start_progress(console: Console) -> Iterator[OnProgress]:
    """A function that shows each step of a start: a bar on a terminal, else a line per step."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield report


def _lines(console: Console) -> OnProgress:
    printed = set()

    def report(what: str, done: int, total: int) -> None:  # noqa: ARG001 - a line shows no numbers
        if what not in printed:
            printed.add(what)
            console.print(what, soft_wrap=True)

    return report


def fetch_model(config: EngineConfig) -> None:
    """Download the model of an embedded engine, or those of a fallback, if they are missing."""
    if isinstance(config, FallbackConfig):
        for engine in config.engines:
            fetch_model(engine)
    elif config.backend == "embedded" and config.endpoint is None:
        fetch_missing(config.model)


def fetch_missing(name: str) -> None:
    """Download a model of the catalogue if it is missing; other names are ignored."""
    if name in models.CATALOGUE and models.find(name) is None:
        fetch(name)


def fetch(name: str) -> Path:
    """The file of the catalogue's model `name`, downloaded to the user's cache if it is missing."""
    console = stderr()
    if not console.is_terminal:
        if models.find(name) is None:
            console.print(f"downloading {name}")
        return models.pull(name)
    columns = (TextColumn(name), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        return models.pull(name, lambda done, total: bar.update(task, completed=done, total=total))
