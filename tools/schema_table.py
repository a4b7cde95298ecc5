"""Write the tables of docs/schema-matrix.md from the shipped reports.

python tools/schema_table.py

A report has a column if it has a verdict for most features, so one of the tier core has none. To
add a server, record ``struct.matrix`` and run ``tools/known_reports.py`` before.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmengine.contract.schema_features import SCHEMA_FEATURES
from pytest_llmengine.reports.known import known_reports
from pytest_llmengine.reports.schema_matrix import schema_verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PAGE = Path(__file__).parents[1] / "docs" / "schema-matrix.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->"
VERDICTS = ("enforced", "ignored", "refused", "unmeasured")


def columns() -> dict[str, dict[str, str]]:
    """The verdict on each feature, by the name and version of the server."""
    found = {f"{k.name} {k.version}": schema_verdicts(k.report) for k in known_reports()}
    return {name: v for name, v in found.items() if len(v) > len(SCHEMA_FEATURES) / 2}


def tables(verdicts: Mapping[str, Mapping[str, str]]) -> str:
    """How many features each server enforces, and what it does with each feature."""
    return "\n".join([*_counts(verdicts), "", *_features(verdicts), ""])


def _counts(verdicts: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield from _head("server", *VERDICTS)
    for name, column in verdicts.items():
        counts = Counter(column.values())
        yield _row([name, *(str(counts[verdict]) for verdict in VERDICTS)])


def _features(verdicts: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield from _head("rule", "feature", "the prompt asks for", *verdicts)
    for one in SCHEMA_FEATURES:
        wanted = json.dumps(one.violation.get("value", one.violation), ensure_ascii=False)
        cells = (_cell(column.get(one.id, "-")) for column in verdicts.values())
        yield _row([f"`{one.id}`", f"`{one.feature}`", f"`{wanted}`", *cells])


def _head(*names: str) -> tuple[str, str]:
    return _row(names), "|---" * len(names) + "|"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(verdict: str) -> str:
    return f"**{verdict}**" if verdict == "ignored" else verdict


def written() -> str:
    """The page with the tables of the shipped reports."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{tables(columns())}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
