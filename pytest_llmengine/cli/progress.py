"""Runs checks one after another and shows how far it is."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from pytest_llmengine.contract.outcomes import Outcome
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.reports import CheckRecord

    Run = Callable[[Check], CheckRecord]


def run_all(
    checks: Sequence[Check], run: Run, console: Console, *, title: str
) -> Iterator[CheckRecord]:
    """The record of each check as it is made; a bar on a terminal, else `title` and a line a group.

    An interrupted run has those that were made before.
    """
    if console.is_terminal:
        return _with_bar(checks, run, console)
    console.print(title, soft_wrap=True)
    return _with_lines(checks, run, console)


def _with_bar(checks: Sequence[Check], run: Run, console: Console) -> Iterator[CheckRecord]:
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
            yield run(check)
            bar.advance(task)


def _with_lines(checks: Sequence[Check], run: Run, console: Console) -> Iterator[CheckRecord]:
    for group, members in groupby(checks, key=lambda check: check.group):
        counts: Counter[Outcome] = Counter()
        for check in members:
            record = run(check)
            counts[record.outcome] += 1
            yield record
        told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        console.print(f"{group}: {told}", soft_wrap=True)
