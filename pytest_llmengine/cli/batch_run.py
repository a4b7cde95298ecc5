"""The engines of ``llmengine batch``, and the progress and summary of a batch."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import as_shown
from pytest_llmengine.cli.progress import fetch_model
from pytest_llmengine.targets import Mode, Settings
from pytest_llmengine.targets.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from llmengine import Engine, EngineConfig, HostedBatch, Progress


def make_engines(
    names: Sequence[str],
    urls: Sequence[str],
    model: str | None,
    file: Path | None,
    concurrency: int | None,
) -> list[Engine]:
    """One engine per name; or one engine per URL, all with the same name and backend.

    Raises ConfigError or TargetError if the arguments do not fit together.
    """
    if urls and len(names) > 1:
        raise ConfigError(
            "--url goes with one --engine only; leave out --url, or all but one engine"
        )
    name = names[0] if names else ("openai_compatible" if urls else "embedded")
    if urls:
        configs = [_config(name, url, model, file) for url in urls]
    else:
        configs = [_config(n, None, model, file) for n in names or [name]]
    if len(urls) > 1:
        configs = [c.model_copy(update={"name": as_shown(c.endpoint)}) for c in configs]
    if concurrency is not None:
        configs = [c.model_copy(update={"max_concurrency": concurrency}) for c in configs]
    for config in configs:
        fetch_model(config)
    return [config.engine for config in configs]


def _config(name: str, url: str | None, model: str | None, file: Path | None) -> EngineConfig:
    settings = Settings(engines=(name,), url=url, model=model, config=file, mode=Mode.LIVE)
    return make_plan(name, settings).config


LINE_SECONDS = 10.0
HOSTED_LINE_SECONDS = 300.0


@contextmanager
def batch_progress(
    console: Console, *, line_seconds: float = LINE_SECONDS
) -> Iterator[Callable[[Progress], None]]:
    """A function that shows the progress: a bar on a terminal, else a line every few seconds."""
    if console.is_terminal:
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=console, transient=True) as bar:
            yield _bar(bar)
    else:
        yield _lines(console, line_seconds)


def describe_progress(progress: Progress) -> str:
    """The rate, and what is known of tokens, cost, time left and servers that delay the batch."""
    parts = [f"{progress.rate:.3g} lines/s", *_usage(progress)]
    if progress.failed:
        parts.insert(0, f"{progress.failed} failed")
    if progress.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(progress.seconds_left))} left")
    if progress.resting:
        parts.append(f"not answering: {', '.join(progress.resting)}")
    parts += [f"{name} asks to wait {left:.0f} s" for name, left in progress.pauses.items()]
    return ", ".join(parts)


def hosted_progress(
    console: Console, *, line_seconds: float = HOSTED_LINE_SECONDS
) -> Callable[[Sequence[HostedBatch]], None]:
    """A function that prints one line per batch, when its state changes and once in a while."""
    printed: dict[str, tuple[str, float]] = {}

    def show(batches: Sequence[HostedBatch]) -> None:
        now = time.monotonic()
        for batch in batches:
            status, at = printed.get(batch.id, ("", now))
            if status == batch.status and (batch.has_ended or now - at < line_seconds):
                continue
            printed[batch.id] = batch.status, now
            done = batch.completed + batch.failed
            counts = f", {done} of {batch.total} lines" if batch.total else ""
            unknown = "" if batch.is_known else " (not a state of OpenAI's Batch API)"
            console.print(f"{batch.id}: {batch.status}{unknown}{counts}", soft_wrap=True)

    return show


def summary(progress: Progress) -> str:
    """The result of a batch, on one line."""
    parts = [f"{progress.answered} of {progress.total} lines answered"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.unasked:
        parts.append(f"{progress.unasked} not sent yet")
    if progress.earlier:
        parts.append(f"{progress.earlier} of them in earlier runs")
    count = "1 request" if progress.attempts == 1 else f"{progress.attempts} requests"
    parts.append(f"{count} in {timedelta(seconds=round(progress.seconds))}")
    if progress.usage is not None:
        parts += _usage(progress)
        if progress.cost is None:
            parts.append("cost unknown")
    return ", ".join(parts)


def _usage(progress: Progress) -> list[str]:
    tokens = progress.usage.total_tokens if progress.usage is not None else None
    parts = [] if tokens is None else [f"{tokens:,} tokens"]
    if progress.cost is not None and progress.currency is not None:
        parts.append(f"{progress.cost:,.4f} {progress.currency}")
    return parts


def _bar(bar: Bar) -> Callable[[Progress], None]:
    task = bar.add_task("", total=None)

    def show(progress: Progress) -> None:
        bar.update(
            task,
            total=progress.total,
            completed=progress.done,
            description=describe_progress(progress),
        )

    return show


def _lines(console: Console, every: float) -> Callable[[Progress], None]:
    printed_at = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at < every:
            return
        printed_at = time.monotonic()
        of = "" if progress.total is None else f" of {progress.total}"
        console.print(f"{progress.done}{of} lines, {describe_progress(progress)}", soft_wrap=True)

    return show
