"""The report for a browser: one file, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.parity.pairing import first_difference
from pytest_llmengine.parity.reports.plot import plot_of
from pytest_llmengine.parity.reports.words import (
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
    unlike,
)
from pytest_llmengine.parity.verdict import Verdict
from pytest_llmengine.reports.render import render_page

if TYPE_CHECKING:
    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.pair import Pair, Place
    from pytest_llmengine.parity.report import Report

    Row = tuple[str, ...]
    Table = tuple[Row, list[Row]]

_HERE = "pytest_llmengine.parity.reports"


@dataclass(frozen=True, slots=True)
class Cut:
    """One side's answer in three: what both say, the first token of its own, and the rest."""

    shared: str
    first: str
    rest: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair side by side, under the last message of its prompt."""

    id: str
    status: str
    parting: str
    asked: str
    cuts: tuple[Cut, Cut]


def to_html(report: Report) -> str:
    """The report as a self-contained page, what models said escaped."""
    return render_page(
        "parity.html.jinja",
        package=_HERE,
        title=title_of(report),
        lines=side_lines(report),
        equal=report.verdict is Verdict.EQUAL,
        summary=summary_line(report),
        tables=_tables(report),
        plot=plot_of(report),
        unlike=[_shown(report, pair) for pair in unlike(report)],
    )


def _tables(report: Report) -> dict[str, Table]:
    tables: dict[str, Table] = {"What may change answers": (CAUSE_HEADS, list(cause_rows(report)))}
    if report.pairs:
        tables["Held against the noise floor"] = (CRITERION_HEADS, list(criterion_rows(report)))
        tables["By kind"] = (KIND_HEADS, list(kind_rows(report)))
        heads = ("variation", *KIND_HEADS[1:])
        tables["The baseline against itself"] = (heads, list(noise_rows(report)))
    return tables


def _shown(report: Report, pair: Pair) -> Shown:
    ours, theirs = report.answers(pair.id)
    asked = str(report.prompt(pair.id).messages[-1].get("content", ""))
    if pair.divergence is None:
        cuts = (_whole(ours), _whole(theirs))
        return Shown(pair.id, pair.status.value, "", asked, cuts)
    parted = first_difference(ours.text, theirs.text)
    shared = len(ours.text) if parted is None else parted
    parts = pair.divergence
    cuts = (_cut(ours.text, shared, parts.baseline), _cut(theirs.text, shared, parts.candidate))
    return Shown(pair.id, pair.status.value, parting(parts), asked, cuts)


def _whole(answer: Answer) -> Cut:
    return Cut(answer.text, answer.error or "", "")


def _cut(text: str, shared: int, place: Place) -> Cut:
    own = text[shared:]
    token = place.token or ""
    length = len(token) if token and own.startswith(token) else min(len(own), 1)
    return Cut(text[:shared], own[:length], own[length:])
