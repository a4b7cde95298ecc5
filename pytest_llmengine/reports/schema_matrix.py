"""The table of the schema matrix: what servers do with each feature of JSON schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.schema_features import GROUP, SCHEMA_FEATURES
from pytest_llmengine.reports.page import Cell, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.reports.model import CheckRecord, ContractReport

_WORDS = {Outcome.PASS: "enforced"}  # the other outcomes have names that fit a feature


def schema_verdicts(report: ContractReport) -> dict[str, str]:
    """What the server did with each feature, before a profile; empty without the rules."""
    return {name: _word(record) for name, record in _records(report).items()}


def schema_table(names: Sequence[str], reports: Sequence[ContractReport]) -> Table | None:
    """One row per feature with the verdict of each report; None if no report has the rules."""
    columns = [_records(report) for report in reports]
    found = dict.fromkeys(name for column in columns for name in column)
    if not found:
        return None
    known = {row.id: row.feature for row in SCHEMA_FEATURES}
    ordered = [*(name for name in known if name in found), *(n for n in found if n not in known)]
    rows = tuple(
        (
            Cell(name),
            Cell(known.get(name, "")),
            *(_cell(column.get(name)) for column in columns),
        )
        for name in ordered
    )
    heads = ("rule", "feature", *names)
    return Table(heads, rows, "Features of JSON schemas", unwrapped=heads[:2])


def is_only_matrix(report: ContractReport) -> bool:
    """Whether all checks of a report are rules of the matrix."""
    return all(record.group == GROUP for record in report.checks)


def _records(report: ContractReport) -> dict[str, CheckRecord]:
    """The records of the matrix by the last part of their ids."""
    return {c.id.removeprefix(f"{GROUP}."): c for c in report.checks if c.group == GROUP}


def _word(record: CheckRecord) -> str:
    return _WORDS.get(record.observed, str(record.observed))


def _cell(record: CheckRecord | None) -> Cell:
    return Cell("-") if record is None else Cell(_word(record), record.observed)
