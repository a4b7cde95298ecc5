"""Consoles, tables and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import Console


# Columns in a pipe: wide enough that a row stays on one line, for grep, cut and awk.
_PIPED_WIDTH = 400


def stdout() -> Console:
    """The console for results; in a pipe, lines are not wrapped."""
    from pytest_llmengine.reports.console import SafeConsole, report_width

    console = SafeConsole(highlight=False, markup=False, emoji=False)
    console.width = report_width(console.width, is_terminal=console.is_terminal)
    return console


def stderr() -> Console:
    """The console for progress and errors, so that results can be piped."""
    from pytest_llmengine.reports.console import SafeConsole

    return SafeConsole(stderr=True, highlight=False, markup=False, emoji=False)


def listing() -> Console:
    """The console for wide tables: wrapped on a terminal, one line per row in a pipe."""
    console = stdout()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


def print_rows(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    prose: bool = False,
    spare: str | None = None,
) -> None:
    """Print rows as a table, or one below the other if the terminal is too narrow for a table.

    Nothing is cut, so that all values can be copied. ``right`` are the columns of numbers. With
    ``prose``, the last column may be wrapped. ``spare`` is a column that is left out if there is
    no room for it.
    """
    from rich.console import Group

    from pytest_llmengine.reports.page import Table

    console = listing()
    unwrapped = heads[:-1] if prose else heads
    table = Table.of_texts(heads, rows, right=right, unwrapped=unwrapped)
    if spare is not None and not table.fits(console.width):
        table = table.without(spare)
    parts = table.to_terminal() if table.fits(console.width) else table.to_entries()
    console.print(Group(*parts))


ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        "--engine-image",
        help="The image of the container to start.",
        show_default="a pinned one",
    ),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        "--engine-gpus",
        help="The GPUs for the container: all, a number, or device=0,1.",
        show_default="none",
    ),
]
StartupTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--startup-timeout",
        "--engine-startup-timeout",
        min=0.001,
        help="Seconds until the container's first token, not counting downloads.",
        show_default="600",
    ),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        "--engine-header",
        metavar="'NAME: VALUE'",
        help="A header to send with every request; repeatable. Its value is not printed.",
        show_default="none",
    ),
]
RulesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="A Python file with rules of your own, such as conftest.py; repeatable.",
    ),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="Also answer requests for this host name; repeatable.",
        show_default="localhost and loopback addresses",
    ),
]
CorsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cors",
        metavar="ORIGIN",
        help="Let web pages of this origin, such as http://localhost:3000, read the answers; "
        "repeatable.",
        show_default="none",
    ),
]
IgnorePathOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore-path",
        metavar="PATH",
        help="A JSON path in the bodies of requests that is not compared, such as "
        "$.metadata.sent_at; repeatable.",
    ),
]
NormalizeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--normalize",
        metavar="NAME",
        help="Replace dates, uuids or numbers in the strings of requests before they are "
        "compared, or apply package.module:function; repeatable.",
    ),
]
MatchOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--match-on",
        metavar="NAME",
        help="What must be equal: method, path, query, body, or package.module:function; "
        "repeatable.",
        show_default="the first four",
    ),
]
SummaryOption = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FILE",
        envvar="GITHUB_STEP_SUMMARY",
        help="Append a short summary in Markdown to this file.",
        show_default="none",
    ),
]


class LevelName(StrEnum):
    """The level of a rule: what it is based on."""

    REQUIRED = "required"
    EXPECTED = "expected"
    OPTIONAL = "optional"
    QUIRK = "quirk"


class TierName(StrEnum):
    """The depth of a run; a tier includes the tiers before it."""

    SMOKE = "smoke"
    CORE = "core"
    EXTENDED = "extended"
