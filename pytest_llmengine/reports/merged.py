"""Several reports on one page: as a matrix of rules and servers, or as the changes between two.

A page consists of lines, a summary and tables. It is printed on a terminal, or written as Markdown
or HTML.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from llmengine.types.secrets import scrub
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.reports.render import (
    STYLES,
    clipped,
    escape,
    header_lines,
    printable,
    render_page,
    row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from pytest_llmengine.reports.model import CheckRecord, ContractReport

    MatrixRow = tuple[str, list[CheckRecord | None]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, coloured by its outcome if it has one."""

    text: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table: column heads and rows of cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page; ``good`` says whether the summary is good news, None if it is neither."""

    title: str
    lines: tuple[str, ...]
    summary: str
    good: bool | None
    tables: tuple[Table, ...]


def verdict_cell(record: CheckRecord | None) -> Cell:
    """The cell of an outcome, with "!" if it is not accepted; "-" if there is no record."""
    if record is None:
        return Cell("-")
    return Cell(f"{record.outcome}{'' if record.accepted else ' !'}", record.outcome)


def matrix_page(reports: Sequence[ContractReport], *, every: bool) -> Page:
    """The reports side by side; without `every`, only the rules that some server does not pass."""
    names = labels(reports)
    rows = list(_rows(reports))
    odd = [row for row in rows if not _passes(row)]
    title = f"Rules that some server does not pass ({len(odd)} of {len(rows)})"
    shown = rows if every else odd
    return Page(
        title="Contract matrix",
        lines=tuple(
            f"{name}: {'; '.join(header_lines(report))}"
            for name, report in zip(names, reports, strict=True)
        ),
        summary=f"{len(rows)} rules, {len(reports)} reports: {len(rows) - len(odd)} pass wherever "
        'they were run ("!" is not accepted, "-" was not run)',
        good=None,
        tables=(
            _servers(names, reports),
            _rules(f"Rules ({len(rows)})" if every else title, names, shown),
        ),
    )


def labels(reports: Sequence[ContractReport]) -> list[str]:
    """A short unique name per report: the engine, with its version or a number if needed."""
    plain = [report.header.engine for report in reports]
    longer = [f"{r.header.engine} {r.header.version or r.header.model}" for r in reports]
    chosen = [_pick(plain, longer, place) for place in range(len(reports))]
    return [_numbered(chosen, place) for place in range(len(chosen))]


def by_catalogue(ids: Iterable[str]) -> list[str]:
    """The ids in the order of the catalogue; ids that are no longer in it come last."""
    order = {known: place for place, known in enumerate(catalogue())}
    return sorted(dict.fromkeys(ids), key=lambda one: order.get(one, len(order)))


def _pick(plain: Sequence[str], longer: Sequence[str], place: int) -> str:
    return plain[place] if plain.count(plain[place]) == 1 else longer[place]


def _numbered(chosen: Sequence[str], place: int) -> str:
    name = chosen[place]
    return name if chosen.count(name) == 1 else f"{name} ({chosen[: place + 1].count(name)})"


def _rows(reports: Sequence[ContractReport]) -> Iterable[MatrixRow]:
    found: list[Mapping[str, CheckRecord]] = [{c.id: c for c in r.checks} for r in reports]
    for one in by_catalogue(id_ for records in found for id_ in records):
        yield one, [records.get(one) for records in found]


def _passes(row: MatrixRow) -> bool:
    return all(record.outcome is Outcome.PASS for record in row[1] if record is not None)


def _servers(names: Sequence[str], reports: Sequence[ContractReport]) -> Table:
    total: Counter[Outcome] = Counter()
    for report in reports:
        total.update(report.outcomes)
    shown = [outcome for outcome in Outcome if total[outcome] or outcome is Outcome.PASS]
    rows = (
        (
            Cell(name),
            Cell(str(len(report.checks))),
            *(Cell(str(n), o) if (n := report.outcomes[o]) else Cell("-") for o in shown),
            Cell(str(report.summary()["not_accepted"] or "-")),
        )
        for name, report in zip(names, reports, strict=True)
    )
    heads = ("server", "checks", *map(str, shown), "not accepted")
    return Table("Servers", heads, tuple(rows))


def _rules(title: str, names: Sequence[str], rows: Sequence[MatrixRow]) -> Table:
    told = (
        (
            Cell(one),
            Cell(next(r.level for r in records if r is not None)),
            *map(verdict_cell, records),
        )
        for one, records in rows
    )
    return Table(title, ("rule", "level", *names), tuple(told))


class ChangeKind(StrEnum):
    """How a rule's verdict changed; the most important kind comes first."""

    WORSE = "No longer accepted"
    BETTER = "Accepted now"
    OTHER = "Another outcome"
    NEW = "Not in the old report"
    GONE = "Not in the new report"


@dataclass(frozen=True, slots=True)
class Change:
    """One rule's verdict before and after; None if a report does not have the rule."""

    id: str
    before: CheckRecord | None
    after: CheckRecord | None

    @property
    def kind(self) -> ChangeKind | None:
        """The kind of the change; None if nothing changed."""
        if self.before is None:
            return ChangeKind.NEW
        if self.after is None:
            return ChangeKind.GONE
        if self.before.accepted != self.after.accepted:
            return ChangeKind.BETTER if self.after.accepted else ChangeKind.WORSE
        return None if self.before.outcome is self.after.outcome else ChangeKind.OTHER


def changes(old: ContractReport, new: ContractReport) -> dict[ChangeKind, list[Change]]:
    """The changes by kind, in the order of the catalogue; kinds without changes are left out."""
    before, after = ({c.id: c for c in report.checks} for report in (old, new))
    found: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
    for one in by_catalogue([*before, *after]):
        change = Change(one, before.get(one), after.get(one))
        if change.kind is not None:
            found[change.kind].append(change)
    return {kind: listed for kind, listed in found.items() if listed}


def changes_page(old: ContractReport, new: ContractReport) -> Page:
    """The changes as a page; the page is good unless some rule is no longer accepted."""
    found = changes(old, new)
    return Page(
        title="Contract changes",
        lines=(
            f"before: {'; '.join(header_lines(old))}",
            f"after: {'; '.join(header_lines(new))}",
            *_warnings(old, new),
        ),
        summary=_summary(found),
        good=ChangeKind.WORSE not in found,
        tables=tuple(_table(kind, listed) for kind, listed in found.items()),
    )


def _warnings(old: ContractReport, new: ContractReport) -> list[str]:
    """Other differences between the runs, which may be the reason for changes."""
    pairs = {
        name: (getattr(old.header, name), getattr(new.header, name))
        for name in ("engine", "model", "mode", "tier", "tool_version")
    }
    return [f"{name} differs: {a}, then {b}" for name, (a, b) in pairs.items() if a != b]


def _summary(found: dict[ChangeKind, list[Change]]) -> str:
    if not found:
        return "nothing changed"
    return ", ".join(f"{len(listed)} {kind.lower()}" for kind, listed in found.items())


def _table(kind: ChangeKind, listed: Sequence[Change]) -> Table:
    rows = tuple(_row(change) for change in listed)
    return Table(f"{kind} ({len(rows)})", ("rule", "level", "before", "after", "why"), rows)


def _row(change: Change) -> tuple[Cell, ...]:
    told = [record for record in (change.after, change.before) if record is not None]
    reasons = (record.reason for record in told if change.kind is not ChangeKind.GONE)
    why = next(filter(None, reasons), "")
    before, after = verdict_cell(change.before), verdict_cell(change.after)
    return Cell(change.id), Cell(told[0].level), before, after, Cell(printable(why))


# Characters per cell: about two lines beside the other columns of a terminal.
_LONGEST_CELL = 120


def page_for_terminal(page: Page) -> Group:
    """The page as a rich renderable; long cells are cut."""
    parts: list[RenderableType] = [Text(printable(line)) for line in page.lines]
    for table in page.tables:
        parts += [Text(), Text(table.title, style="bold"), _rich_table(table)]
    style = {True: "bold green", False: "bold red", None: "bold"}[page.good]
    return Group(*parts, Text(), Text(page.summary, style=style))


def page_as_markdown(page: Page) -> str:
    """The page as GitHub-flavoured Markdown; texts from servers are escaped."""
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
    """The page as one HTML file without external resources; texts from servers are escaped."""
    return render_page("page.html.jinja", title=page.title, lines=page.lines, page=page)


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
