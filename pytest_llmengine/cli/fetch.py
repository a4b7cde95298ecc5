"""Downloads a model with a bar on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from llmengine.embedded import models
from pytest_llmengine.cli.console import stderr

if TYPE_CHECKING:
    from pathlib import Path


def fetch_missing(name: str) -> None:
    """Download a model of the catalogue that is not on this machine; another is left alone."""
    if name in models.CATALOGUE and models.find(name) is None:
        fetch(name)


def fetch(name: str) -> Path:
    """The file of the catalogue's model `name`, downloaded to the user's cache if need be."""
    console = stderr()
    if not console.is_terminal:  # rich before 14.3 ends a bar that it does not show in a line
        if models.find(name) is None:
            console.print(f"downloading {name}")
        return models.pull(name)
    columns = (TextColumn(name), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=None)
        return models.pull(name, lambda done, total: bar.update(task, completed=done, total=total))
