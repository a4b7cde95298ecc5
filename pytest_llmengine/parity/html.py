"""The HTML report of a comparison with its plot in SVG, and writing a report to a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.types.secrets import scrub
from pytest_llmengine.parity.pairs import first_difference
from pytest_llmengine.parity.render import (
    CAUSE_HEADS,
    CRITERION_HEADS,
    KIND_HEADS,
    cause_rows,
    criterion_rows,
    kind_rows,
    noise_rows,
    parting,
    side_lines,
    summary_line,
    title_of,
    to_json,
    to_markdown,
    unlike,
)
from pytest_llmengine.parity.verdict import ParityVerdict, differences
from pytest_llmengine.reports import check_path
from pytest_llmengine.reports.render import render_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.pairs import DivergingToken, Pair
    from pytest_llmengine.parity.verdict import ParityReport

    TableRow = tuple[str, ...]
    TableData = tuple[TableRow, list[TableRow]]


WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 12, 34
_LOWEST, _HIGHEST = -7, 1  # powers of ten; a difference of 0 is drawn at the bottom


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: the sorted differences of log-probabilities, as points of an SVG polyline."""

    name: str
    css: str
    points: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A horizontal grid line with its label."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The values for the template; ``allowed`` is the y position of the largest allowed value."""

    lines: tuple[Line, ...]
    ticks: tuple[Tick, ...]
    allowed: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM


def plot_of(report: ParityReport) -> Plot | None:
    """The plot of a report; None if there are no log-probabilities to compare."""
    candidate = differences(report.pairs)
    if not candidate:
        return None
    lines = [_line("candidate", "candidate", candidate), *_noise_lines(report)]
    largest = next((c.allowed for c in reversed(report.criteria) if c.of is None), None)
    ticks = tuple(Tick(_y(10.0**n), f"1e{n}") for n in range(_LOWEST, _HIGHEST + 1, 2))
    return Plot(tuple(lines), ticks, None if largest is None else _y(largest))


def _noise_lines(report: ParityReport) -> Iterator[Line]:
    for number, variation in enumerate(report.baseline.noise, 1):
        if values := differences(variation.pairs):
            yield _line(f"noise: {variation.name}", f"noise{number}", values)


def _line(name: str, css: str, values: Sequence[float]) -> Line:
    """A curve with one step per prompt, from the smallest difference to the largest."""
    points = []
    for place, value in enumerate(values):
        points += [(_x(place / len(values)), _y(value)), (_x((place + 1) / len(values)), _y(value))]
    return Line(name, css, " ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float) -> float:
    power = math.log10(value) if value > 0 else _LOWEST
    share = (min(max(power, _LOWEST), _HIGHEST) - _LOWEST) / (_HIGHEST - _LOWEST)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


_HERE = "pytest_llmengine.parity"


@dataclass(frozen=True, slots=True)
class Cut:
    """One side's answer in three parts: the shared beginning, the first other token, the rest."""

    shared: str
    first: str
    rest: str


@dataclass(frozen=True, slots=True)
class PairView:
    """Two answers for the page, side by side, with the last message of their prompt."""

    id: str
    status: str
    parting: str
    asked: str
    cuts: tuple[Cut, Cut]


def to_html(report: ParityReport) -> str:
    """The report as one file without external resources; texts from models are escaped."""
    return render_page(
        "parity.html.jinja",
        package=_HERE,
        title=title_of(report),
        lines=side_lines(report),
        equal=report.verdict is ParityVerdict.EQUAL,
        summary=summary_line(report),
        tables=_tables(report),
        plot=plot_of(report),
        unlike=[_shown(report, pair) for pair in unlike(report)],
    )


def _tables(report: ParityReport) -> dict[str, TableData]:
    tables: dict[str, TableData] = {
        "What may change answers": (CAUSE_HEADS, list(cause_rows(report)))
    }
    if report.pairs:
        tables["Held against the noise floor"] = (CRITERION_HEADS, list(criterion_rows(report)))
        tables["By kind"] = (KIND_HEADS, list(kind_rows(report)))
        heads = ("variation", *KIND_HEADS[1:])
        tables["The baseline against itself"] = (heads, list(noise_rows(report)))
    return tables


def _shown(report: ParityReport, pair: Pair) -> PairView:
    ours, theirs = report.answers(pair.id)
    asked = str(report.prompt(pair.id).messages[-1].get("content", ""))
    if pair.divergence is None:
        cuts = (_whole(ours), _whole(theirs))
        return PairView(pair.id, pair.status.value, "", asked, cuts)
    parted = first_difference(ours.text, theirs.text)
    shared = len(ours.text) if parted is None else parted
    parts = pair.divergence
    cuts = (_cut(ours.text, shared, parts.baseline), _cut(theirs.text, shared, parts.candidate))
    return PairView(pair.id, pair.status.value, parting(parts), asked, cuts)


def _whole(answer: ParityAnswer) -> Cut:
    return Cut(answer.text, answer.error or "", "")


def _cut(text: str, shared: int, place: DivergingToken) -> Cut:
    own = text[shared:]
    token = place.token or ""
    length = len(token) if token and own.startswith(token) else min(len(own), 1)
    return Cut(text[:shared], own[:length], own[length:])


FORMS: dict[str, Callable[[ParityReport], str]] = {
    ".json": to_json,
    ".md": to_markdown,
    ".html": to_html,
}


def write_report(report: ParityReport, path: Path) -> None:
    """Write the report as JSON, Markdown or HTML by the file's suffix; known keys are removed.

    Raises ConfigError if the suffix is unknown or the folder does not exist.
    """
    check_path(path, FORMS)
    path.write_text(scrub(FORMS[path.suffix](report)), encoding="utf-8")
