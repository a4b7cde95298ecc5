"""Draw docs/images/matrix.svg: how much of the contract each server keeps, by area.

python tools/matrix_picture.py

Each column is the newest shipped report of a server. To compare servers, only rules of the tiers
smoke and core count, which all of them were asked. An area is the first part of a group's name:
``chat`` holds ``chat.stream``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.reports.known import known_reports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.reports.model import ContractReport

OTHER_MODELS = {"ollama-think", "ollama-tools"}  # the server of the column ollama
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "matrix.svg"
# The other outcomes say nothing about the rule.
_COUNTED_AS = {
    Outcome.PASS: "kept",
    Outcome.LENIENT: "kept",
    Outcome.FAIL: "broken",
    Outcome.IGNORED: "broken",
    Outcome.DEVIATES: "broken",
    Outcome.REFUSED: "refused",
}
_COMPARED = ("smoke", "core")
_LEGEND = (
    "rules kept, of those of the tiers smoke and core that could be measured and were not refused"
)
_LABELS, _COLUMN, _ROW, _HEAD, _FOOT, _GAP = 110, 112, 26, 52, 30, 3
# Backgrounds for shares of kept rules, each with a contrast of at least 4.5 to its text.
_SHADES = ((1.0, "#1a7f37", "#fff"), (0.8, "#8fd19e", "#111"), (0.5, "#ffe08a", "#111"))
_UNKNOWN = "not measured"
_LOWEST, _NOTHING = ("#f4a9a0", "#111"), ("#eceff1", "#555")


class Cell(NamedTuple):
    """How many rules of an area a server keeps, breaks and refuses clearly."""

    kept: int = 0
    broken: int = 0
    refused: int = 0

    @property
    def measured(self) -> int:
        """The rules that the server keeps or breaks."""
        return self.kept + self.broken

    @property
    def text(self) -> str:
        """The kept and the measured rules, or why there are none."""
        if self.measured:
            return f"{self.kept} of {self.measured}"
        return "refused" if self.refused else _UNKNOWN

    @property
    def colors(self) -> tuple[str, str]:
        """The background and the text."""
        if not self.measured:
            return _NOTHING
        share = self.kept / self.measured
        return next(((back, text) for least, back, text in _SHADES if share >= least), _LOWEST)


def cells(report: ContractReport) -> dict[str, Cell]:
    """The cell of each area, in the order of the report."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in report.checks:
        area = record.group.partition(".")[0]
        if record.tier in _COMPARED:
            counts[area][_COUNTED_AS.get(record.outcome, "")] += 1
    return {area: Cell(**{f: n[f] for f in Cell._fields}) for area, n in counts.items()}


def picture(reports: dict[str, ContractReport]) -> str:
    """The picture as SVG: a row per area that was measured on any server, a column per report."""
    columns = {name: cells(report) for name, report in reports.items()}
    areas = dict.fromkeys(area for column in columns.values() for area in column)
    shown = [a for a in areas if any(c.get(a, Cell()).text != _UNKNOWN for c in columns.values())]
    width = _LABELS + _COLUMN * len(columns) + 20
    height = _HEAD + _ROW * len(shown) + _FOOT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"',
        f'height="{height}" font-family="sans-serif" font-size="13" role="img">',
        "<title>Rules of the contract that each server keeps, by area</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#fff"/>',
        *_heads(list(columns)),
        *chain.from_iterable(_row(i, a, list(columns.values())) for i, a in enumerate(shown)),
        f'<text x="12" y="{height - 11}" font-size="11" fill="#555">{_LEGEND}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _heads(names: list[str]) -> Iterator[str]:
    for i, name in enumerate(names):
        x = _LABELS + _COLUMN * i + _COLUMN / 2
        for y, text in zip((23, 40), name.split(), strict=False):
            yield (
                f'<text x="{x:g}" y="{y}" text-anchor="middle" font-weight="bold" fill="#111">'
                f"{escape(text)}</text>"
            )


def _row(i: int, area: str, columns: list[dict[str, Cell]]) -> Iterator[str]:
    y = _HEAD + _ROW * i
    yield f'<text x="12" y="{y + 17}" fill="#111">{escape(area)}</text>'
    for j, column in enumerate(columns):
        cell = column.get(area, Cell())
        back, text = cell.colors
        x = _LABELS + _COLUMN * j
        yield (
            f'<rect x="{x}" y="{y}" width="{_COLUMN - _GAP}" height="{_ROW - _GAP}" rx="3" '
            f'fill="{back}"/><text x="{x + (_COLUMN - _GAP) / 2:g}" y="{y + 16}" '
            f'text-anchor="middle" fill="{text}">{cell.text}</text>'
        )


def drawn() -> str:
    """The picture of the newest report of each server."""
    shown = (known for known in known_reports() if known.name not in OTHER_MODELS)
    newest = {known.name: known for known in shown}  # the newest version comes last
    return picture({f"{known.name} {known.version}": known.report for known in newest.values()})


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
