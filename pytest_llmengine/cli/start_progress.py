"""Shows how the start of a container goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from pytest_llmengine.containers.docker import OnProgress


@contextmanager
def start_progress(console: Console) -> Iterator[OnProgress]:
    """A bar for each step on a terminal, else a line for each; nothing where nothing is started."""
    if not console.is_terminal:  # rich before 14.3 ends a bar that it does not show in a line
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
    told = set()

    def report(what: str, done: int, total: int) -> None:  # noqa: ARG001 - a step, not how far
        if what not in told:
            told.add(what)
            console.print(what, soft_wrap=True)

    return report
