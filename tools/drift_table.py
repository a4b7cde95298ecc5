"""Write the tables of real changes in docs/drift.md and BENCHMARK.md from the measured summary.

    python tools/drift_table.py

``benchmarks/drift/table.py`` measures, and writes tests/drift/recorded/changes.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[1]
SUMMARY = ROOT / "tests" / "drift" / "recorded" / "changes.json"
BEGIN, END = "<!-- table of changes -->\n", "<!-- end of the table of changes -->"
_TIERS = ("logprobs", "text")

Row = dict[str, Any]


def rows() -> dict[str, dict[str, Row]]:
    """The summary: per change and tier, what was measured."""
    read: dict[str, dict[str, Row]] = json.loads(SUMMARY.read_text("utf-8"))
    return read


def short_table() -> Iterator[str]:
    """In how many runs each tier found a change, and what the report says about it."""
    yield from _head("change", *_TIERS, "what the report says")
    for change, tiers in rows().items():
        named = dict.fromkeys(name for row in tiers.values() for name in _said(row))
        cells = (_found(tiers.get(tier)) for tier in _TIERS)
        yield _row([change, *cells, ", ".join(named)])


def full_table() -> Iterator[str]:
    """How often each change was found, by what, and at what cost."""
    yield from _head("change", "tier", "found", "p", "by", "requests", "tokens")
    for change, tiers in rows().items():
        for tier, row in tiers.items():
            by = ", ".join([*row["findings"], *row["evidence"]])
            cost = (f"{row['requests']:g}", f"{row['tokens']:,g}")
            yield _row([change, tier, _found(row), f"{row['p']:.1g}", by, *cost])


def _said(row: Row) -> list[str]:
    """The findings and the named changes."""
    return [*row["findings"], *row["named"]] if row["changed"] else []


def _found(row: Row | None) -> str:
    return "" if row is None else f"{row['changed']} of {row['runs']}"


def _head(*names: str) -> tuple[str, str]:
    return _row(names), "|---" * len(names) + "|"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


PAGES: dict[Path, Callable[[], Iterator[str]]] = {
    ROOT / "docs" / "drift.md": short_table,
    ROOT / "BENCHMARK.md": full_table,
}


def written(page: Path) -> str:
    """The text of a page with the table as measured."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "".join(f"{line}\n" for line in PAGES[page]())
    return f"{before}{BEGIN}{table}{END}{after}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path), encoding="utf-8")
