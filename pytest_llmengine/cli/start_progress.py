"""Shows how the start of a container goes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from pytest_llmengine.containers.progress import OnProgress


@contextmanager
def start_progress(console: Console) -> Iterator[OnProgress]:
    """A bar for each step on a terminal, else a line for each; nothing where nothing is started."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=None)
                if not console.is_terminal:
                    console.print(what, soft_wrap=True)
            bars.update(tasks[what], completed=done, total=total or None)

        yield report
