"""Write the tables of docs/servers.md and docs/schema-matrix.md from the shipped reports.

python tools/report_tables.py

A report has a column of features if it has a verdict for most of them, so one of the tier core has
none. To add it, record ``struct.matrix`` of the server, and run ``tools/known_reports.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.schema_features import SCHEMA_FEATURES
from pytest_llmengine.reports.known import known_reports
from pytest_llmengine.reports.schema_matrix import schema_verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->"
_OUTCOMES = (
    *(Outcome.PASS, Outcome.FAIL, Outcome.REFUSED),
    *(Outcome.IGNORED, Outcome.LENIENT, Outcome.UNMEASURED),
)
_VERDICTS = ("enforced", "ignored", "refused", "fail", "unmeasured")
_EVERY_SERVER = ("smoke", "core")  # the tiers that every server was asked


def feature_columns() -> dict[str, dict[str, str]]:
    """The verdict on each feature of schemas, by the name and version of the server."""
    found = {f"{k.name} {k.version}": schema_verdicts(k.report) for k in known_reports()}
    return {name: v for name, v in found.items() if len(v) > len(SCHEMA_FEATURES) / 2}


def outcome_table() -> Iterator[str]:
    """How many rules of the tier core each server keeps, before a profile is applied."""
    yield from _head("server", *(outcome.value for outcome in _OUTCOMES), "rules")
    for known in known_reports():
        counts = Counter(c.observed for c in known.report.checks if c.tier in _EVERY_SERVER)
        cells = [*(counts[outcome] for outcome in _OUTCOMES), counts.total()]
        yield _row([f"{known.name} {known.version}", *map(str, cells)])


def feature_tables() -> Iterator[str]:
    """How many features of schemas each server enforces, and what it does with each of them.

    A server that enforces nothing has no column.
    """
    columns = feature_columns()
    yield from _head("server", *_VERDICTS)
    for name, column in columns.items():
        counts = Counter(column.values())
        yield _row([name, *(str(counts[verdict]) for verdict in _VERDICTS)])
    columns = {name: c for name, c in columns.items() if "enforced" in c.values()}
    yield ""
    yield from _head("rule", "feature", "the prompt asks for", *columns)
    for one in SCHEMA_FEATURES:
        wanted = json.dumps(one.violation.get("value", one.violation), ensure_ascii=False)
        cells = (_cell(column.get(one.id, "-")) for column in columns.values())
        yield _row([f"`{one.id}`", f"`{one.feature}`", f"`{wanted}`", *cells])


def _head(*names: str) -> tuple[str, str]:
    return _row(names), "|---" * len(names) + "|"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(verdict: str) -> str:
    return f"**{verdict}**" if verdict == "ignored" else verdict


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "servers.md": outcome_table,
    "schema-matrix.md": feature_tables,
}


def written(page: str) -> str:
    """The text of a page with the tables of the shipped reports."""
    before, _, rest = (DOCS / page).read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "".join(f"{line}\n" for line in PAGES[page]())
    return f"{before}{BEGIN}{table}{END}{after}"


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(written(name), encoding="utf-8")
