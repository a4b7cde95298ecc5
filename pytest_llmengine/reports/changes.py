"""What changed between two reports, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_llmengine.reports.matrix import by_catalogue
from pytest_llmengine.reports.page import Cell, Page, Table, verdict_cell
from pytest_llmengine.reports.words import header_lines, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.reports.record import CheckRecord
    from pytest_llmengine.reports.report import Report


class Kind(StrEnum):
    """How a rule's verdict changed, in the order in which a reader wants to know."""

    WORSE = "No longer accepted"
    BETTER = "Accepted now"
    OTHER = "Another outcome"
    NEW = "Not in the old report"
    GONE = "Not in the new report"


@dataclass(frozen=True, slots=True)
class Change:
    """One rule's verdict before and after; None where a report has none."""

    id: str
    before: CheckRecord | None
    after: CheckRecord | None

    @property
    def kind(self) -> Kind | None:
        """What kind of change it is; None if it is none."""
        if self.before is None:
            return Kind.NEW
        if self.after is None:
            return Kind.GONE
        if self.before.accepted != self.after.accepted:
            return Kind.BETTER if self.after.accepted else Kind.WORSE
        return None if self.before.outcome is self.after.outcome else Kind.OTHER


def changes(old: Report, new: Report) -> dict[Kind, list[Change]]:
    """Every change by its kind, in the order of the catalogue; kinds without any are left out."""
    before, after = ({c.id: c for c in report.checks} for report in (old, new))
    found: dict[Kind, list[Change]] = {kind: [] for kind in Kind}
    for one in by_catalogue([*before, *after]):
        change = Change(one, before.get(one), after.get(one))
        if change.kind is not None:
            found[change.kind].append(change)
    return {kind: listed for kind, listed in found.items() if listed}


def changes_page(old: Report, new: Report) -> Page:
    """The changes as a page; it is good news unless something is no longer accepted."""
    found = changes(old, new)
    return Page(
        title="Contract changes",
        lines=(
            f"before: {'; '.join(header_lines(old))}",
            f"after: {'; '.join(header_lines(new))}",
            *_warnings(old, new),
        ),
        summary=_summary(found),
        good=Kind.WORSE not in found,
        tables=tuple(_table(kind, listed) for kind, listed in found.items()),
    )


def _warnings(old: Report, new: Report) -> list[str]:
    """What else differs, and may be the reason."""
    pairs = {
        name: (getattr(old.header, name), getattr(new.header, name))
        for name in ("engine", "model", "mode", "tier", "tool_version")
    }
    return [f"{name} differs: {a}, then {b}" for name, (a, b) in pairs.items() if a != b]


def _summary(found: dict[Kind, list[Change]]) -> str:
    if not found:
        return "nothing changed"
    return ", ".join(f"{len(listed)} {kind.lower()}" for kind, listed in found.items())


def _table(kind: Kind, listed: Sequence[Change]) -> Table:
    rows = tuple(_row(change) for change in listed)
    return Table(f"{kind} ({len(rows)})", ("rule", "level", "before", "after", "why"), rows)


def _row(change: Change) -> tuple[Cell, ...]:
    told = [record for record in (change.after, change.before) if record is not None]
    reasons = (record.reason for record in told if change.kind is not Kind.GONE)
    why = next(filter(None, reasons), "")
    before, after = verdict_cell(change.before), verdict_cell(change.after)
    return Cell(change.id), Cell(told[0].level), before, after, Cell(printable(why))
