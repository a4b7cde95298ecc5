"""The engines of ``llmengine run-yaml``, and the progress and summary of a run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
from llmengine.engine.files import load_engines
from llmengine.types.errors import ConfigError
from pytest_llmengine.cli.options import print_rows
from pytest_llmengine.cli.progress import fetch_model
from pytest_llmengine.reports.page import one_line
from pytest_llmengine.targets import config_named
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Task, TaskID

    from llmengine.engine.engine import EngineConfig
    from llmengine.integrations.chainette.chains import ChainReport
    from llmengine.pipeline import Chain, Pipeline, RunReport, StepProgress

    OnStep = Callable[[StepProgress], object]


def with_engine(pipeline: Pipeline, engine: str | None, file: Path | None) -> Pipeline:
    """The pipeline with the file's engines added; `engine`, if named, runs every step.

    An engine of the file replaces the pipeline's engine of the same name.
    """
    if file is not None:
        pipeline = pipeline.with_engines(load_engines(file))
    return pipeline if engine is None else pipeline.on(engine_named(engine, pipeline.engines))


def fetch_models(pipeline: Pipeline) -> None:
    """Download missing models of embedded engines with a progress bar, before the run starts."""
    for step in pipeline.chain.steps:
        config = pipeline.engines.get(step.engine)
        if config is not None:
            fetch_model(config)


def close_engines(pipeline: Pipeline) -> None:
    """Close the engines of the steps, with the servers that they have started."""
    for step in pipeline.chain.steps:
        pipeline.engines[step.engine].engine.close()


def engine_named(name: str, engines: Mapping[str, EngineConfig]) -> EngineConfig:
    """The engine of that name, else the backend of that name with its default model."""
    if name in engines:
        return engines[name]
    bare = config_named(name, None)
    model = facts(bare.backend).model
    if not model:
        msg = (
            f"engine {name!r} has no model: add it to the pipeline's engines, or to a file given "
            "with --config"
        )
        raise ConfigError(msg)
    return bare.model_copy(update={"model": model})


class PauseColumn(ProgressColumn):
    """The servers that asked for a pause and the seconds left, beside the step that runs."""

    def render(self, task: Task) -> Text:
        """The current pauses; nothing for a step that is finished."""
        current = {} if task.finished else pauses()
        return Text(", ".join(f"{origin} asks to wait {s:.0f} s" for origin, s in current.items()))


@contextmanager
def run_progress(console: Console) -> Iterator[OnStep]:
    """A function that shows the progress: a bar per step on a terminal, else a line per step."""
    if not console.is_terminal:
        yield lambda progress: _print_step(progress, console)
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
        yield lambda progress: _update_bar(progress, bars, tasks)


def _update_bar(progress: StepProgress, bars: Progress, tasks: dict[str, TaskID]) -> None:
    if progress.step not in tasks:
        tasks[progress.step] = bars.add_task(progress.step, total=progress.total, failed="")
    failed = f"{progress.failed} failed" if progress.failed else ""
    bars.update(tasks[progress.step], completed=progress.done, failed=failed)


def _print_step(progress: StepProgress, console: Console) -> None:
    if progress.done == progress.total:
        answered = progress.done - progress.failed
        counts = f"{answered} answered, {progress.failed} failed"
        console.print(
            f"{progress.step}: {counts if progress.total else 'no records'}", soft_wrap=True
        )


_MOST_FAILURES = 10
_COLUMNS = {
    "answered": "answered",
    "failed": "failed",
    "attempts": "attempts",
    "prompt_tokens": "tokens in",
    "completion_tokens": "tokens out",
    "cost": "cost",
}


def print_report(report: RunReport, chain: Chain, console: Console) -> None:
    """Print the table of steps, the first failures, and the folder of the run."""
    heads = ("step", "engine", *_COLUMNS.values())
    rows = [(s.id, s.engine, *_cells(report.usage["steps"][s.id])) for s in chain.steps]
    rows.append(("all", "", *_cells(report.usage["total"])))
    print_rows(heads, rows, right=_COLUMNS.values())
    failed = [record for record in report.records if record["error"]]
    for record in failed[:_MOST_FAILURES]:
        console.print(_failure(record), soft_wrap=True)
    if len(failed) > _MOST_FAILURES:
        console.print(f"and {len(failed) - _MOST_FAILURES} more, in outputs.jsonl")
    console.print(_last_line(report), soft_wrap=True)


def print_chain_report(report: ChainReport, console: Console) -> None:
    """Print the first items that a chain of Chainette skipped, and the folder of the run."""
    for item in report.skipped[:_MOST_FAILURES]:
        console.print(f"skipped: {one_line(str(item))}", soft_wrap=True)
    if len(report.skipped) > _MOST_FAILURES:
        console.print(f"and {len(report.skipped) - _MOST_FAILURES} more, in skipped.jsonl")
    items = "1 item" if report.items == 1 else f"{report.items} items"
    counts = f"{report.answered} answered, {report.items - report.answered} skipped"
    console.print(f"{items}: {counts}; all of it is in {report.folder}", soft_wrap=True)


def _cells(counts: Mapping[str, Any]) -> list[str]:
    return [_cell(counts, name) for name in _COLUMNS]


def _cell(counts: Mapping[str, Any], name: str) -> str:
    if counts[name] is None:
        return "unknown"
    if name == "cost":
        return f"{counts['cost']:.4g} {counts['currency'] or ''}".strip()
    return str(counts[name])


def _failure(record: Mapping[str, Any]) -> str:
    error = record["error"]
    message = one_line(error["message"])
    return f"failed: record {record['id']}: step {error['step']}: {error['type']}: {message}"


def _last_line(report: RunReport) -> str:
    counts = report.counts
    records = "1 record" if counts["records"] == 1 else f"{counts['records']} records"
    outcome = f"{counts['answered']} answered, {counts['failed']} failed"
    return f"{records}: {outcome}; all of it is in {report.folder}"
