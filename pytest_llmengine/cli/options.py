"""The consoles, the tables and the options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import Console, RenderableType


# Columns in a pipe: wide enough that a row stays on one line, for grep, cut and awk.
_PIPED_WIDTH = 400
_GAP = 2
_NARROWEST_PROSE = 24


def stdout() -> Console:
    """The console for results."""
    from pytest_llmengine.reports.console import SafeConsole

    return SafeConsole(highlight=False, markup=False, emoji=False)


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
    rows: Sequence[Sequence[str]],
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
    from rich.table import Table

    console = listing()
    if spare is not None and not _fits(heads, rows, console.width, prose=prose):
        place = heads.index(spare)
        heads = [*heads[:place], *heads[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
    if not _fits(heads, rows, console.width, prose=prose):
        console.print(*(_entry(heads, row) for row in rows), sep="\n")
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for place, head in enumerate(heads):
        wraps = prose and place == len(heads) - 1
        table.add_column(head, justify="right" if head in right else "left", no_wrap=not wraps)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _fits(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, prose: bool) -> bool:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    if prose:
        widths[-1] = min(widths[-1], _NARROWEST_PROSE)
    return sum(widths) + _GAP * (len(widths) - 1) <= width


def _entry(heads: Sequence[str], row: Sequence[str]) -> RenderableType:
    """One row as a list of heads and values; unknown values are left out."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for head, value in zip(heads[1:], row[1:], strict=True):
        if value not in {"", "-"}:
            table.add_row(head, Text(value))
    return Group(Text(row[0], style="bold", overflow="fold"), Padding(table, (0, 0, 0, _GAP)))


ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        "--engine-image",
        help="The image of a container, or to record from.",
        show_default="a pinned one",
    ),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        "--engine-gpus",
        help="The GPUs that a container sees: all, a number, or device=0,1.",
        show_default="none",
    ),
]
StartupTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--startup-timeout",
        "--engine-startup-timeout",
        min=0.001,
        help="How many seconds a container may take to its first token, downloads aside.",
        show_default="600",
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
        help="Answer requests for this host name too; may be given several times.",
        show_default="localhost and loopback addresses",
    ),
]
CorsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cors",
        metavar="ORIGIN",
        help="Let web pages of this origin, such as http://localhost:3000, read the answers.",
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
