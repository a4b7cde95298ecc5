"""Shows how far a run is: a bar a step on a terminal, a line a step elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from llmengine import pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Task, TaskID

    from llmengine.pipeline import StepProgress

    Watch = Callable[[StepProgress], object]


class PauseColumn(ProgressColumn):
    """Which servers asked for a pause, and for how long yet; shown by the step that runs."""

    def render(self, task: Task) -> Text:
        """The pauses of this moment; nothing beside a step that is done."""
        shown = {} if task.finished else pauses()
        return Text(", ".join(f"{origin} asks to wait {s:.0f} s" for origin, s in shown.items()))


@contextmanager
def watching(console: Console) -> Iterator[Watch]:
    """Gives what a run is to tell of its progress."""
    if not console.is_terminal:
        yield lambda progress: _line(progress, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[failed]}"),
        PauseColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}
        yield lambda progress: _bar(progress, bars, tasks)


def _bar(progress: StepProgress, bars: Progress, tasks: dict[str, TaskID]) -> None:
    if progress.step not in tasks:
        tasks[progress.step] = bars.add_task(progress.step, total=progress.total, failed="")
    failed = f"{progress.failed} failed" if progress.failed else ""
    bars.update(tasks[progress.step], completed=progress.done, failed=failed)


def _line(progress: StepProgress, console: Console) -> None:
    if progress.done == progress.total:
        answered = progress.done - progress.failed
        told = f"{answered} answered, {progress.failed} failed" if progress.total else "none to ask"
        console.print(f"{progress.step}: {told}", soft_wrap=True)
