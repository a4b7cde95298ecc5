"""The charts of drift reports: distances of a check, and scores and e-values of a watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift.evidence import EVIDENCE
from pytest_llmengine.reports.chart import Axis, Chart, Series, linear_axis, log_axis
from pytest_llmengine.statistics.two_sample import mean_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.drift.report import DriftReport
    from pytest_llmengine.drift.watch import WatchReport

_MOST = 500  # points of a series
_LOWEST = 1e-3  # of an e-value; lost bets are drawn at the bottom


def distance_chart(report: DriftReport) -> Chart | None:
    """How far the units of both samples are from the baseline, for the most unlikely evidence."""
    tested = [row for row in report.rows if row.adjusted is not None]
    if not tested:
        return None
    row = min(tested, key=lambda row: row.adjusted or 0.0)
    evidence = next(one for one in EVIDENCE if one.name == row.evidence)
    ours = evidence.units(report.baseline.sessions, report.unit)
    theirs = [unit for unit in evidence.units(report.candidate, report.unit) if unit]
    far = [
        sorted(mean_distance([unit], others, evidence.unit_distance) for unit, others in sample)
        for sample in (
            [(unit, ours[:n] + ours[n + 1 :]) for n, unit in enumerate(ours)],
            [(unit, ours) for unit in theirs],
        )
    ]
    return Chart(
        title=f"Distances from the baseline: {row.evidence}",
        text=f"The mean distance of each {report.unit} from those of the baseline, sorted. If "
        "nothing has changed, both are alike.",
        x=Axis("share of the units", 0.0, 1.0, ((0.0, "0%"), (0.5, "50%"), (1.0, "100%"))),
        y=linear_axis("prompts", [*far[0], *far[1]]),
        series=(_sorted("baseline", far[0]), _sorted("candidate", far[1])),
    )


def _sorted(name: str, values: Sequence[float]) -> Series:
    points = tuple(((n + 0.5) / len(values), value) for n, value in enumerate(values))
    return Series(name, points, dots=True)


def e_value_chart(report: WatchReport) -> Chart | None:
    """The history of the e-value of each kind of evidence."""
    names: dict[tuple[float, ...], list[str]] = {}  # many kinds often have one curve
    for row in report.rows:
        if row.e_values:
            names.setdefault(row.e_values, []).append(row.evidence)
    if not names:
        return None
    series = tuple(
        Series(", ".join(kinds), _thinned([1.0, *(max(c, _LOWEST) for c in e_values)]))
        for e_values, kinds in names.items()
    )
    values = [value for one in series for _, value in one.points]
    return Chart(
        title="The evidence of a change after each look",
        text="The e-value of each kind of evidence. Its expected value stays at 1 as long as "
        "nothing changes; the dashed line is an alarm.",
        x=linear_axis("units of looks", [one.points[-1][0] for one in series]),
        y=log_axis("e-value", [*values, report.limit]),
        series=series,
        limits=((report.limit, "alarm"),),
    )


def _thinned(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The values with their places: all, or the highest of each of `_MOST` parts."""
    size = -(-len(values) // _MOST)
    parts = (values[start : start + size] for start in range(0, len(values), size))
    return tuple((float(n * size), max(part)) for n, part in enumerate(parts))


def score_chart(report: WatchReport) -> Chart | None:
    """The scores of the baseline and of the looks, for the evidence with the largest e-value."""
    rows = [row for row in report.rows if row.scores]
    if not rows:
        return None
    row = max(rows, key=lambda row: row.highest)
    calibration = _thinned(row.calibration)
    looks = [(len(row.calibration) + n, score) for n, score in _thinned(row.scores)]
    return Chart(
        title=f"Scores: {row.evidence}",
        text="How much further than the tolerance each unit is from the baseline, in prompts.",
        x=linear_axis("units of the baseline, then of looks", [looks[-1][0]]),
        y=linear_axis("score", [score for _, score in (*calibration, *looks)]),
        series=(
            Series("baseline", calibration, dots=True),
            Series("looks", tuple(looks), dots=True),
        ),
    )
