"""What merged reports have to say, before it takes a form: lines, a verdict, and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmengine.contract.outcomes import Outcome
    from pytest_llmengine.reports.record import CheckRecord


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, coloured by the outcome that it tells of."""

    text: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under heads."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole page; ``good`` says whether its summary is good news, None that it is neither."""

    title: str
    lines: tuple[str, ...]
    summary: str
    good: bool | None
    tables: tuple[Table, ...]


def verdict_cell(record: CheckRecord | None) -> Cell:
    """An outcome; one that is not accepted has a mark, one that is not there a dash."""
    if record is None:
        return Cell("-")
    return Cell(f"{record.outcome}{'' if record.accepted else ' !'}", record.outcome)
