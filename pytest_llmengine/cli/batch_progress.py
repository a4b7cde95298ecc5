"""How far a batch is, for people: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from llmengine import Progress

LINE_SECONDS = 10.0


@contextmanager
def watching(
    console: Console, *, line_seconds: float = LINE_SECONDS
) -> Iterator[Callable[[Progress], None]]:
    """Gives what is to be called with the progress, as often as there is any."""
    if console.is_terminal:
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=console, transient=True) as bar:
            yield _bar(bar)
    else:
        yield _lines(console, line_seconds)


def pace(progress: Progress) -> str:
    """Rate, tokens, cost where it is known, time left where it can be told, and who holds it up."""
    parts = [f"{progress.rate:.3g} lines/s", *_spent(progress)]
    if progress.failed:
        parts.insert(0, f"{progress.failed} failed")
    if progress.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(progress.seconds_left))} left")
    if progress.resting:
        parts.append(f"not answering: {', '.join(progress.resting)}")
    parts += [f"{name} asks to wait {left:.0f} s" for name, left in progress.pauses.items()]
    return ", ".join(parts)


def summary(progress: Progress) -> str:
    """What became of a batch, on one line."""
    parts = [f"{progress.answered} of {progress.total} lines answered"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.unasked:
        parts.append(f"{progress.unasked} not asked yet")
    if progress.earlier:
        parts.append(f"{progress.earlier} of them in earlier runs")
    count = "1 request" if progress.attempts == 1 else f"{progress.attempts} requests"
    parts.append(f"{count} in {timedelta(seconds=round(progress.seconds))}")
    if progress.usage is not None:
        parts += _spent(progress)
        if progress.cost is None:
            parts.append("cost unknown")
    return ", ".join(parts)


def _spent(progress: Progress) -> list[str]:
    tokens = progress.usage.total_tokens if progress.usage is not None else None
    spent = [] if tokens is None else [f"{tokens:,} tokens"]
    if progress.cost is not None and progress.currency is not None:
        spent.append(f"{progress.cost:,.4f} {progress.currency}")
    return spent


def _bar(bar: Bar) -> Callable[[Progress], None]:
    task = bar.add_task("", total=None)

    def show(progress: Progress) -> None:
        bar.update(task, total=progress.total, completed=progress.done, description=pace(progress))

    return show


def _lines(console: Console, every: float) -> Callable[[Progress], None]:
    printed_at = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at < every:
            return
        printed_at = time.monotonic()
        of = "" if progress.total is None else f" of {progress.total}"
        console.print(f"{progress.done}{of} lines, {pace(progress)}", soft_wrap=True)

    return show
