"""A page of a report, and its three forms: for a terminal, as Markdown and as HTML.

Every report is built as a `Page`: a title, lines about its origin, a summary, and blocks between
them. Texts of servers and models are escaped in each form. The terminal form is readable without
colour. The HTML form is one file without external resources.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rich.console import Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from llmengine.types.errors import ConfigError
from llmengine.types.printable import printable
from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from markupsafe import Markup
    from rich.console import Console, RenderableType


# The look of a style on a terminal. In HTML, a style is a class of the template page.html.jinja.
STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.REFUSED: "cyan",
    Outcome.IGNORED: "bold magenta",
    Outcome.LENIENT: "green",
    Outcome.DEVIATES: "yellow",
    Outcome.UNMEASURED: "blue",
    Outcome.ERROR: "bold white on red",
    Outcome.NOT_RUN: "red",
    Outcome.UNRECORDED: "blue",
    "soft": "dim",
    "total": "bold",
}


def one_line(text: str) -> str:
    """The text on one line, with control characters written as escapes."""
    return printable(" ".join(text.split()))


def clipped(text: str, limit: int) -> str:
    """The text, or its beginning with " ..." if it is longer than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


@dataclass(frozen=True, slots=True)
class Cell:
    """A text of a table, with the name of its style; "" is plain text."""

    text: str
    style: str = ""


class Block(Protocol):
    """A part of a page, in each of the three forms."""

    def to_terminal(self) -> Iterator[RenderableType]:
        """The renderables of rich, one below the other."""

    def to_markdown(self) -> Iterator[str]:
        """The paragraphs, which are separated by blank lines."""

    def to_html(self) -> Markup:
        """The element of the page's body."""


@dataclass(frozen=True, slots=True)
class Page:
    """A report as a page.

    ``good`` says whether the summary is good news, None if it is neither. ``note`` is a remark for
    readers of the terminal form, such as where the whole report is. ``html`` makes the HTML form of
    a page that has more there than its blocks.
    """

    title: str
    lines: tuple[str, ...]
    summary: str
    good: bool | None
    blocks: tuple[Block, ...] = ()
    note: str = ""
    html: Callable[[], str] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the heads of its columns, and rows of cells.

    On a terminal, ``right`` are the columns that are aligned right, ``unwrapped`` are those that
    are never wrapped, and ``longest`` is the number of characters after which a cell is cut.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    right: Collection[str] = ()
    unwrapped: Collection[str] = ()
    longest: int | None = None

    _GAP: ClassVar[int] = 2
    _NARROWEST: ClassVar[int] = 24  # a wrapped column; if it is narrower, it is hard to read

    @classmethod
    def of_texts(
        cls,
        heads: Sequence[str],
        rows: Iterable[Sequence[str]],
        title: str = "",
        *,
        right: Collection[str] = (),
        unwrapped: Collection[str] = (),
    ) -> Table:
        """A table of plain texts."""
        cells = tuple(tuple(map(Cell, row)) for row in rows)
        return cls(tuple(heads), cells, title, right, unwrapped)

    def without(self, head: str) -> Table:
        """The table without one column."""
        place = self.heads.index(head)
        heads = self.heads[:place] + self.heads[place + 1 :]
        return replace(
            self, heads=heads, rows=tuple(row[:place] + row[place + 1 :] for row in self.rows)
        )

    def fits(self, width: int) -> bool:
        """Whether the table can be printed in this width without cutting a word."""
        texts = (self.heads, *([cell.text for cell in row] for row in self.rows))
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        least = [
            needed if head in self.unwrapped else min(needed, self._NARROWEST)
            for head, needed in zip(self.heads, widths, strict=True)
        ]
        return sum(least) + self._GAP * (len(least) - 1) <= width

    def to_terminal(self) -> Iterator[RenderableType]:
        """The title and the columns."""
        if self.title:
            yield Text(self.title, style="bold")
        table = RichTable(box=None, padding=(0, self._GAP, 0, 0), pad_edge=False)
        for head in self.heads:
            table.add_column(
                Text(head),
                justify="right" if head in self.right else "left",
                no_wrap=head in self.unwrapped,
            )
        for row in self.rows:
            table.add_row(*map(self._text, row))
        yield table

    def to_entries(self) -> Iterator[RenderableType]:
        """One list of heads and values per row, for narrow terminals, without unknown values."""
        for first, *others in self.rows:
            values = RichTable(
                box=None, show_header=False, padding=(0, self._GAP, 0, 0), pad_edge=False
            )
            values.add_column(no_wrap=True, style="dim")
            values.add_column(overflow="fold")
            for head, cell in zip(self.heads[1:], others, strict=True):
                if cell.text not in {"", "-"}:
                    values.add_row(head, self._text(cell))
            yield Text(first.text, style="bold", overflow="fold")
            yield Padding(values, (0, 0, 0, self._GAP))

    def _text(self, cell: Cell) -> Text:
        text = printable(cell.text)
        clipped_text = text if self.longest is None else clipped(text, self.longest)
        return Text(clipped_text, style=STYLES.get(cell.style, ""))

    def to_markdown(self) -> Iterator[str]:
        """The title and a table of GitHub-flavoured Markdown."""
        if self.title:
            yield f"## {escape(self.title)}"
        rows = [
            map(escape, self.heads),
            ("---:" if head in self.right else "---" for head in self.heads),
            *(map(_markdown_cell, row) for row in self.rows),
        ]
        yield "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def to_html(self) -> Markup:
        """The title and the table."""
        return fill("table.html.jinja", table=self)


def _markdown_cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.style == "total" else text


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~@&])")


def escape(text: str) -> str:
    """The text on one line, escaped so that Markdown shows it unchanged."""
    return _SPECIAL.sub(r"\\\1", one_line(text))


def print_page(page: Page, console: Console) -> None:
    """Print the lines of the page, its blocks, its note, and its summary last."""
    parts: list[RenderableType] = [Text(one_line(line)) for line in page.lines]
    for block in page.blocks:
        parts += [Text(), *block.to_terminal()]
    if page.note:
        parts += [Text(), Text(page.note, style=STYLES["soft"])]
    style = {True: "bold green", False: "bold red", None: "bold"}[page.good]
    parts += [Text(), Text(page.summary, style=style)]
    console.print(Group(*parts), soft_wrap=False)


def to_markdown(page: Page) -> str:
    """The page as GitHub-flavoured Markdown."""
    paragraphs = [
        f"# {escape(page.title)}",
        "  \n".join(map(escape, page.lines)),
        f"**{escape(page.summary)}**",
    ]
    for block in page.blocks:
        paragraphs += block.to_markdown()
    return "\n\n".join(paragraphs) + "\n"


def to_html(page: Page) -> str:
    """The page as one HTML file."""
    return str(fill("page.html.jinja", page=page)) if page.html is None else page.html()


_HERE = "pytest_llmengine.reports"


def fill(template: str, *, package: str = _HERE, **values: Any) -> Markup:
    """The HTML of a template in the folder ``templates`` of a package; the values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - only for HTML
    from markupsafe import Markup  # noqa: PLC0415 - the same

    environment = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(one_line=one_line, printable=printable, content=_content)
    filled = environment.get_template(template).render(values)
    return Markup(filled)  # nosec B704  # noqa: S704 - the environment escapes the values


def _content(text: str) -> Markup:
    """A text as the content of an element, where quotes may stay as they are.

    Escaped quotes would make the JSON in a page a third longer.
    """
    from markupsafe import Markup  # noqa: PLC0415 - only for HTML

    return Markup(html.escape(text, quote=False))  # nosec B704  # noqa: S704 - it is escaped


PAGE_FORMATS: dict[str, Callable[[Page], str]] = {".md": to_markdown, ".html": to_html}
REPORT_FORMATS = (".json", *PAGE_FORMATS)


def check_path(path: Path, formats: Iterable[str] = REPORT_FORMATS, what: str = "report") -> None:
    """Raise ConfigError unless a file can be written to this path; called before the run."""
    if not format_of(path, formats):
        raise ConfigError(f"{what} {path}: the name must end in {', '.join(formats)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{what} {path}: there is no directory {path.parent}; make it first")


def format_of(path: Path, formats: Iterable[str]) -> str:
    """The first of the formats with which the name of the file ends; "" if there is none."""
    return next((end for end in formats if path.stem and path.name.endswith(end)), "")


def write_page(page: Page, path: Path) -> None:
    """Write the page as Markdown (``.md``) or HTML (``.html``), without known keys."""
    path.write_text(scrub(PAGE_FORMATS[path.suffix](page)), encoding="utf-8")


def write_report(path: Path, page: Callable[[], Page], json: Callable[[], str]) -> None:
    """Write a report as JSON (``.json``), Markdown (``.md``) or HTML (``.html``)."""
    check_path(path)
    if path.suffix == ".json":
        path.write_text(scrub(json()), encoding="utf-8")
    else:
        write_page(page(), path)
