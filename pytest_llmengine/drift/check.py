"""The check of a candidate against a baseline: the test of each kind of evidence, and the verdict.

Each kind of evidence has one permutation test of units, which are rounds or sessions. Holm's
correction gives all of them one false-alarm rate. A kind of evidence with too few units to reach
that rate is left out before anything is compared. One in which all units of both sides are equal
needs no correction: whether they are does not depend on which units are the candidate's.
"""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import TYPE_CHECKING

from pytest_llmengine.drift.answers import DriftError
from pytest_llmengine.drift.baseline import DriftTier, DriftUnit
from pytest_llmengine.drift.diagnosis import named_changes
from pytest_llmengine.drift.evidence import EVIDENCE, evidence_of
from pytest_llmengine.drift.findings import find
from pytest_llmengine.drift.report import ALPHA, DriftReport, DriftVerdict, EvidenceRow
from pytest_llmengine.drift.smallest_change import CheckSize, smallest_change
from pytest_llmengine.statistics import holm
from pytest_llmengine.statistics.two_sample import DRAWS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_llmengine.drift.answers import DriftSession, RoundKind
    from pytest_llmengine.drift.baseline import Baseline, DriftFacts
    from pytest_llmengine.drift.evidence import Evidence
    from pytest_llmengine.drift.report import DriftFinding


_WITHIN = "differs no further than the baseline itself"
_MOST = 1000  # sessions that are advised


def judge(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    *,
    alpha: float = ALPHA,
    facts: DriftFacts | None = None,
    power: bool = True,
) -> DriftReport:
    """The report on a measured candidate.

    Without ``power``, it does not say what would have been seen, which can take seconds.
    """
    if baseline.probe.tier is DriftTier.WEIGHTS and not _is_scored(candidate):
        raise DriftError(
            "the answers of tier weights must be judged by a reference; `llmengine drift check` "
            "does so"
        )
    findings = find(baseline, candidate, facts)
    rows = _rows(baseline, candidate, alpha, power=power)
    verdict, reason = _verdict(findings, rows, candidate, alpha)
    is_changed = verdict is DriftVerdict.CHANGED
    named = named_changes(baseline, candidate, rows, alpha) if is_changed else ()
    return DriftReport(
        verdict=verdict,
        reason=reason,
        alpha=alpha,
        unit=baseline.unit,
        baseline=baseline,
        candidate=tuple(candidate),
        facts=facts,
        rows=rows,
        findings=tuple(findings),
        named=tuple(named),
    )


def _is_scored(sessions: Sequence[DriftSession]) -> bool:
    return all(answer.score for session in sessions for answer in session.answers)


def refusal(
    baseline: Baseline, sessions: int, rounds: Mapping[RoundKind, int], alpha: float = ALPHA
) -> DriftReport | None:
    """The report if a check of this size cannot tell, before anything is asked; else None."""
    shown = evidence_of(baseline.sessions)
    sizes = {e: _sizes(baseline, e, sessions, sessions * rounds.get(e.kind, 0)) for e in shown}
    if any(_reaches(sizes[evidence], alpha / len(shown)) for evidence in shown):
        return None
    return DriftReport(
        verdict=DriftVerdict.UNKNOWN,
        reason=_advice(baseline, sessions, len(shown), alpha),
        alpha=alpha,
        unit=baseline.unit,
        baseline=baseline,
    )


def _sizes(baseline: Baseline, evidence: Evidence, sessions: int, rounds: int) -> tuple[int, int]:
    """How many units a baseline has, and a candidate of this size."""
    ours = evidence.units(baseline.sessions, baseline.unit)
    return len(ours), sessions if baseline.unit is DriftUnit.SESSION else rounds


def _reaches(sizes: tuple[int, int], level: float) -> bool:
    """Whether so many units can have a p-value of at most this level."""
    ours, theirs = sizes
    arrangements = min(comb(ours + theirs, theirs), DRAWS + 1)
    if ours == theirs:  # both samples may also change places
        arrangements //= 2
    return ours > 0 and theirs > 0 and arrangements * level >= 1


def _advice(baseline: Baseline, sessions: int, family: int, alpha: float) -> str:
    ours, level = len(baseline.sessions), alpha / family
    if baseline.unit is DriftUnit.ROUND:
        return (
            f"so few rounds cannot show a change at a false-alarm rate of {alpha:g}; "
            "use more --rounds"
        )
    if baseline.self_test is None:
        return (
            "the baseline has too few sessions and rounds to tell whether its sessions differ; "
            "record it again with at least --sessions 2 --rounds 2, better 4 and 5"
        )
    enough = next((n for n in range(1, _MOST) if _reaches((n, sessions), level)), _MOST)
    more = next((n for n in range(1, _MOST) if _reaches((ours, n), level)), None)
    look = f"; or check with --sessions {more} --spread 1h" if more else ""
    return (
        "the sessions of the baseline differ from each other, so whole sessions are compared, and "
        f"{ours} of the baseline with {sessions} cannot show a change at a false-alarm rate of "
        f"{alpha:g}: record with --sessions {enough}{look}"
    )


def _rows(
    baseline: Baseline, candidate: Sequence[DriftSession], alpha: float, *, power: bool
) -> tuple[EvidenceRow, ...]:
    """One row per kind of evidence that the baseline shows."""
    complete = [session for session in candidate if not session.error]
    shown = evidence_of(baseline.sessions)
    level = alpha / max(len(shown), 1)
    rows = [_row(baseline, complete, evidence, level, power=power) for evidence in shown]
    differing = [row for row in rows if row.distance is not None]
    adjusted = holm({r.evidence: r.p_value for r in differing if r.p_value is not None})
    rows = [replace(row, adjusted=adjusted.get(row.evidence, row.p_value)) for row in rows]
    return tuple(
        replace(row, note=_WITHIN)
        if row.adjusted is not None and row.adjusted <= alpha and not row.is_changed(alpha)
        else row
        for row in rows
    )


def _row(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    evidence: Evidence,
    level: float,
    *,
    power: bool,
) -> EvidenceRow:
    """The test of one kind of evidence, which is found for certain at this level."""
    ours = evidence.units(baseline.sessions, baseline.unit)
    theirs = [unit for unit in evidence.units(candidate, baseline.unit) if unit]
    row = EvidenceRow(evidence=evidence.name, units=(len(ours), len(theirs)))
    if not theirs:
        return replace(row, note="not asked")
    if not evidence.is_shown(candidate):
        return replace(row, note=evidence.if_missing or "no longer shown")
    if not _reaches(row.units, level):
        return replace(row, note="too few to show a change")
    p_value, distance = evidence.test(ours, theirs)
    row = replace(row, p_value=p_value, distance=distance, tolerance=evidence.tolerance(baseline))
    if not power:
        return row
    prompts = len(baseline.probe.of_kind(evidence.kind))
    check = CheckSize(len(theirs), prompts, level, row.tolerance)
    return replace(row, would_see=smallest_change(evidence, ours, check))


def _verdict(
    findings: Sequence[DriftFinding],
    rows: Sequence[EvidenceRow],
    candidate: Sequence[DriftSession],
    alpha: float,
) -> tuple[DriftVerdict, str]:
    tested = [row for row in rows if row.adjusted is not None]
    changed = [row for row in tested if row.is_changed(alpha)]
    if findings or changed:
        reasons = list(dict.fromkeys(finding.name for finding in findings))
        reasons += [f"{row.evidence} (adjusted p {row.adjusted:.2g})" for row in changed]
        return DriftVerdict.CHANGED, "; ".join(reasons)
    if error := next((session.error for session in candidate if session.error), ""):
        return DriftVerdict.UNKNOWN, error
    if not tested:
        return DriftVerdict.UNKNOWN, "no kind of evidence could be compared"
    excused = {evidence.if_missing for evidence in EVIDENCE if evidence.if_missing}
    if missing := next((row for row in rows if row.note in excused), None):
        return DriftVerdict.UNKNOWN, f"{missing.evidence} could not be compared: {missing.note}"
    least = min(row.adjusted for row in tested if row.adjusted is not None)
    within = [f"; {row.evidence} {_WITHIN}" for row in tested if row.note == _WITHIN]
    reason = f"no evidence of a change (smallest adjusted p {least:.2g})"
    return DriftVerdict.SAME, reason + "".join(within)
