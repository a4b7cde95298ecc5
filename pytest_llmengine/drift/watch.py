"""Repeated looks at one server, with one false-alarm rate for all of them together.

A baseline is divided: most of its units are the reference, and the scores of the others are what
looks are ranked among. A look measures as many rounds as a session of the baseline has, and has a
score per unit: each round, or the whole session, as the self-tests of the baseline decided.

Each kind of evidence has a `LookHistory` of its own. It alarms at ``kinds / alpha``, since the
chance that any of them ever does is then at most alpha, whatever they have to do with each other.
(Their mean is no such evidence: the ranks of one kind are not uniform given those of another.)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.evidence import evidence_of
from pytest_llmengine.drift.exchangeability import depends_on_load
from pytest_llmengine.drift.journal import WatchLook
from pytest_llmengine.drift.report import ALPHA, DriftVerdict
from pytest_llmengine.statistics import LookHistory, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_llmengine.drift.answers import DriftSession, RoundKind
    from pytest_llmengine.drift.baseline import Baseline, DriftFacts
    from pytest_llmengine.drift.evidence import Evidence
    from pytest_llmengine.drift.report import NamedChange

T = TypeVar("T")

SESSIONS = 20
"""The sessions of a baseline that a watch needs.

With less, a cause that is the same for a whole session, such as a replica, may not have shown yet.
"""
SESSIONS_THAT_DIFFER = 40
"""The same if sessions differ: the tolerance is measured, and must cover the load of any night."""
MOST_LOOKS = 365
"""So many more looks are tried to say when a change would be found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRow:
    """The looks at one kind of evidence.

    ``calibration`` are the scores of the baseline, in prompts beyond the ``tolerance``. ``scores``
    and ``e_values`` have one item per unit of all looks that count. ``highest`` is the largest
    e-value until now. ``alarm`` is the date of the look that reached the limit.
    ``looks_to_alarm`` is how many looks it takes to find a change that is larger than every score
    until now; None if it takes more than `MOST_LOOKS`.
    """

    evidence: str
    tolerance: float
    calibration: tuple[float, ...]
    scores: tuple[float, ...] = ()
    e_values: tuple[float, ...] = ()
    highest: float = 1.0
    alarm: str | None = None
    looks_to_alarm: int | None = None

    @property
    def e_value(self) -> float:
        """The e-value after the last look."""
        return self.e_values[-1] if self.e_values else 1.0

    @property
    def smallest_change(self) -> float:
        """The distance from the baseline, in prompts, beyond which a change is found."""
        return self.tolerance + max((*self.calibration, *self.scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchReport:
    """All looks at a server until now.

    ``limit`` is the e-value at which a kind of evidence alarms. ``facts`` are those of the server
    in this look, and ``named`` the likely causes of a change. ``journal`` is the file of the looks,
    ``earlier`` the number of looks at earlier baselines in it, and ``note`` what was odd about it.
    """

    verdict: DriftVerdict
    reason: str
    alpha: float
    limit: float
    baseline: Baseline
    rows: tuple[WatchRow, ...]
    looks: tuple[WatchLook, ...]
    facts: DriftFacts | None = None
    named: tuple[NamedChange, ...] = ()
    journal: Path | None = None
    earlier: int = 0
    note: str = ""

    @classmethod
    def refused(cls, baseline: Baseline, reason: str) -> Self:
        """The report if a baseline cannot be watched at."""
        return cls(
            verdict=DriftVerdict.UNKNOWN,
            reason=reason,
            alpha=ALPHA,
            limit=1 / ALPHA,
            baseline=baseline,
            rows=(),
            looks=(),
        )

    @property
    def last(self) -> WatchLook | None:
        """The last look that counts."""
        return next((look for look in reversed(self.looks) if not look.error), None)


def divided(units: Sequence[T]) -> tuple[list[T], list[T]]:
    """The units of a baseline that are the reference, and those that looks are ranked among.

    Neighbours are alike if the load drifts, so both have units of all times. The reference has the
    larger part, since a tolerance is measured with it.
    """
    others = units[_PART - 1 :: _PART]
    return [unit for n, unit in enumerate(units) if n % _PART != _PART - 1], list(others)


_PART = 4


def look_unit(baseline: Baseline) -> DriftUnit:
    """What has a score in a look.

    It is the whole session also if only the load makes rounds differ: how busy the server is may
    change from month to month.
    """
    return DriftUnit.SESSION if depends_on_load(baseline) else baseline.unit


def tolerance_of(unit: DriftUnit) -> float | None:
    """The tolerance of `Reference`; None: it is measured.

    If sessions do not differ, rounds are exchangeable, and need none. If they do, the cause may be
    a load that drifts, so that not even sessions are exchangeable.
    """
    return 0.0 if unit is DriftUnit.ROUND else None


class LookScores:
    """What the looks at a baseline are compared with: one reference per kind of evidence."""

    def __init__(self, baseline: Baseline) -> None:
        self.baseline = baseline
        self.unit = look_unit(baseline)
        self._references: dict[Evidence, Reference[Any]] = {}
        self.calibration: dict[str, tuple[float, ...]] = {}
        for evidence in evidence_of(baseline.sessions):
            sessions = [s for s in baseline.sessions if s.of_kind(evidence.kind)]
            units = evidence.units(sessions, self.unit)
            if len(units) < _PART:
                continue
            ours, others = divided(units)
            tolerance = baseline.tolerance
            if tolerance is None:
                tolerance = tolerance_of(self.unit)
            reference = Reference(ours, evidence.distance, tolerance)
            if tolerance is None:
                of_loads = evidence.load_tolerance(divided(sessions)[0])
                reference.tolerance = max(reference.tolerance, of_loads)
            self._references[evidence] = reference
            self.calibration[evidence.name] = tuple(map(reference.score, others))

    @property
    def tolerances(self) -> dict[str, float]:
        """The tolerance of each kind of evidence."""
        return {evidence.name: one.tolerance for evidence, one in self._references.items()}

    def units_per_look(self, name: str) -> int:
        """How many scores a look has for a kind of evidence."""
        if self.unit is DriftUnit.SESSION:
            return 1
        kind = next(evidence.kind for evidence in self._references if evidence.name == name)
        return rounds_of(self.baseline)[kind]

    def of(self, session: DriftSession) -> dict[str, tuple[float, ...]]:
        """The scores of a look's units, by kind of evidence."""
        return {
            evidence.name: tuple(
                reference.score(unit) for unit in evidence.units([session], self.unit)
            )
            for evidence, reference in self._references.items()
        }


def rounds_of(baseline: Baseline) -> dict[RoundKind, int]:
    """How many rounds of each kind a look has: those of a session of the baseline.

    A session with another number of rounds would not be exchangeable with it.
    """
    return dict(Counter(one.kind for one in baseline.sessions[0].rounds))


def report_of(
    scores: LookScores, alpha: float, looks: Sequence[WatchLook], *, power: bool = True
) -> WatchReport:
    """The report on all looks at a baseline.

    Without ``power``, it does not say how many looks find a change.
    """
    limit = max(len(scores.calibration), 1) / alpha
    rows = tuple(_row(name, scores, looks, limit, power=power) for name in scores.calibration)
    verdict, reason = _verdict(rows, looks, limit)
    return WatchReport(
        verdict=verdict,
        reason=reason,
        alpha=alpha,
        limit=limit,
        baseline=scores.baseline,
        rows=rows,
        looks=tuple(looks),
    )


def _row(
    name: str, scores: LookScores, looks: Sequence[WatchLook], limit: float, *, power: bool
) -> WatchRow:
    calibration = scores.calibration[name]
    history = LookHistory.of(calibration)
    seen: list[float] = []
    e_values: list[float] = []
    alarm = None
    for look in looks:
        for score in look.scores.get(name, ()):
            history = history.look(score)
            seen.append(score)
            e_values.append(history.capital)
        if alarm is None and history.highest >= limit:
            alarm = look.date
    return WatchRow(
        evidence=name,
        tolerance=scores.tolerances[name],
        calibration=calibration,
        scores=tuple(seen),
        e_values=tuple(e_values),
        highest=history.highest,
        alarm=alarm,
        looks_to_alarm=(
            _looks_to_alarm(history, limit, scores.units_per_look(name)) if power else None
        ),
    )


def _looks_to_alarm(history: LookHistory, limit: float, units: int) -> int | None:
    """How many more looks find a change after which all scores are equal, the worst case."""
    changed = max(history.scores) + 1
    for look in range(MOST_LOOKS):
        if history.highest >= limit:
            return look
        for _ in range(units):
            history = history.look(changed)
    return None


def _verdict(
    rows: Sequence[WatchRow], looks: Sequence[WatchLook], limit: float
) -> tuple[DriftVerdict, str]:
    if found := next((look for look in looks if look.findings), None):
        return DriftVerdict.CHANGED, f"the look of {found.date} found: {'; '.join(found.findings)}"
    if alarms := sorted((row.alarm, row.evidence) for row in rows if row.alarm):
        names = ", ".join(name for _, name in alarms)
        return DriftVerdict.CHANGED, (
            f"changed, as the look of {alarms[0][0]} shows ({names}: the e-value reached "
            f"{max(row.highest for row in rows):.4g} of {limit:g}); if the change is wanted, "
            "`llmengine drift accept` records a new baseline"
        )
    if earlier := next((look for look in looks if look.changed), None):
        return DriftVerdict.CHANGED, f"changed, as the look of {earlier.date} showed"
    if looks and looks[-1].error:
        return DriftVerdict.UNKNOWN, f"this look does not count: {looks[-1].error}"
    known = sum(not look.error for look in looks)
    return DriftVerdict.SAME, (
        f"no evidence of a change in {counted(known, 'look')}: the largest e-value is "
        f"{max((row.highest for row in rows), default=1.0):.4g}, and an alarm needs {limit:g}"
    )


def refusal(baseline: Baseline) -> str:
    """Why a baseline cannot be watched at, and what to do; "" if it can."""
    needed, why = SESSIONS, "to tell whether sessions differ"
    if look_unit(baseline) is DriftUnit.SESSION and baseline.tolerance is None:
        needed, why = SESSIONS_THAT_DIFFER, "since its sessions differ from each other"
        if baseline.unit is DriftUnit.ROUND:
            why = "since its answers depend on the number of requests in flight"
        elif baseline.self_test is None:
            why = "since sessions of one round do not show whether they differ"
    if len(baseline.sessions) >= needed:
        return ""
    return (
        f"the baseline has {len(baseline.sessions)} sessions, and a watch needs {needed} {why}; "
        f"record it with --sessions {needed} --rounds 3 --spread 8h"
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def next_look(
    scores: LookScores,
    alpha: float,
    looks: Sequence[WatchLook],
    session: DriftSession,
    findings: Sequence[str] = (),
) -> WatchLook:
    """The look that a session is, after the earlier ones."""
    look = WatchLook(
        date=session.time or now(),
        scores={} if session.error else scores.of(session),
        findings=() if session.error else tuple(findings),
        error=session.error,
        requests=session.requests,
        prompt_tokens=session.prompt_tokens,
        completion_tokens=session.completion_tokens,
    )
    report = report_of(scores, alpha, [*looks, look], power=False)
    return replace(
        look,
        e_values={} if look.error else {row.evidence: row.e_value for row in report.rows},
        changed=report.verdict is DriftVerdict.CHANGED,
    )


def now() -> str:
    """The time of now in ISO 8601 (UTC)."""
    return datetime.now(UTC).isoformat(timespec="seconds")
