"""A page on a terminal, as Markdown, and for a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from llmengine.types.secrets import scrub
from pytest_llmengine.reports.html import render
from pytest_llmengine.reports.markdown import escape, row
from pytest_llmengine.reports.terminal import STYLES
from pytest_llmengine.reports.words import clipped, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import RenderableType

    from pytest_llmengine.reports.page import Cell, Page, Table

# Characters of a cell: two lines or so beside the other columns of a terminal.
_LONGEST_CELL = 120


def page_for_terminal(page: Page) -> Group:
    """The page as something that rich can print; long cells are cut."""
    parts: list[RenderableType] = [Text(printable(line)) for line in page.lines]
    for table in page.tables:
        parts += [Text(), Text(table.title, style="bold"), _rich_table(table)]
    style = {True: "bold green", False: "bold red", None: "bold"}[page.good]
    return Group(*parts, Text(), Text(page.summary, style=style))


def page_as_markdown(page: Page) -> str:
    """The page as GitHub-flavoured Markdown, what servers said escaped."""
    blocks = [
        f"# {page.title}",
        "  \n".join(map(escape, page.lines)),
        f"**{escape(page.summary)}**",
    ]
    for table in page.tables:
        rows = [
            row(map(escape, table.heads)),
            row("---" for _ in table.heads),
            *(row(escape(cell.text) for cell in cells) for cells in table.rows),
        ]
        blocks += [f"## {table.title}", "\n".join(rows)]
    return "\n\n".join(blocks) + "\n"


def page_as_html(page: Page) -> str:
    """The page as one file that fetches nothing, what servers said escaped."""
    return render("page.html.jinja", title=page.title, lines=page.lines, page=page)


PAGE_FORMS: dict[str, Callable[[Page], str]] = {".md": page_as_markdown, ".html": page_as_html}


def write_page(page: Page, path: Path) -> None:
    """Write the page as Markdown (``.md``) or for a browser (``.html``)."""
    path.write_text(scrub(PAGE_FORMS[path.suffix](page)), encoding="utf-8")


def _rich_table(table: Table) -> RichTable:
    made = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    for head in table.heads:
        made.add_column(Text(head))
    for cells in table.rows:
        made.add_row(*map(_text, cells))
    return made


def _text(cell: Cell) -> Text:
    style = "" if cell.outcome is None else STYLES[cell.outcome]
    return Text(clipped(cell.text, _LONGEST_CELL), style=style)
