"""The check of a candidate against a baseline: the test of each kind of evidence, and the verdict.

Each kind of evidence has one permutation test of units, which are rounds or sessions. Holm's
correction gives all of them one false-alarm rate. A kind of evidence with too few units to reach
that rate is left out before anything is compared.
"""

from __future__ import annotations

from dataclasses import replace
from math import comb
from typing import TYPE_CHECKING

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.diagnosis import named_changes
from pytest_llmengine.drift.evidence import EVIDENCE
from pytest_llmengine.drift.findings import find
from pytest_llmengine.drift.report import ALPHA, DriftReport, DriftVerdict, EvidenceRow
from pytest_llmengine.drift.smallest_change import smallest_change
from pytest_llmengine.statistics import holm, permutation_test, stratum_of
from pytest_llmengine.statistics.two_sample import DRAWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.drift.answers import DriftSession, RoundKind
    from pytest_llmengine.drift.baseline import Baseline, ServerFacts
    from pytest_llmengine.drift.evidence import Evidence
    from pytest_llmengine.drift.report import DriftFinding


def judge(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    *,
    alpha: float = ALPHA,
    facts: ServerFacts | None = None,
) -> DriftReport:
    """The report on a measured candidate."""
    findings = find(baseline, candidate, facts)
    rows = _rows(baseline, candidate, alpha)
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


def refusal(
    baseline: Baseline, sessions: int, rounds: Mapping[RoundKind, int], alpha: float = ALPHA
) -> DriftReport | None:
    """The report if a check of this size cannot tell, before anything is asked; else None."""
    shown = [evidence for evidence in EVIDENCE if evidence.is_shown(baseline.sessions)]
    sizes = {e: _sizes(baseline, e, sessions, sessions * rounds.get(e.kind, 0)) for e in shown}
    if any(_reaches(sizes[evidence], len(shown), alpha) for evidence in shown):
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


def _reaches(sizes: tuple[int, int], family: int, alpha: float) -> bool:
    """Whether so many units can have a p-value that is small enough for so many tests."""
    ours, theirs = sizes
    arrangements = min(comb(ours + theirs, theirs), DRAWS + 1)
    if ours == theirs:  # both samples may also change places
        arrangements //= 2
    return ours > 0 and theirs > 0 and arrangements * alpha >= family


def _advice(baseline: Baseline, sessions: int, family: int, alpha: float) -> str:
    ours = len(baseline.sessions)
    if baseline.unit is DriftUnit.ROUND:
        return (
            f"so few rounds cannot show a change at a false-alarm rate of {alpha:g}; "
            "use more --rounds"
        )
    enough = next(n for n in range(1, 10**6) if _reaches((n, sessions), family, alpha))
    more = next((n for n in range(1, 100) if _reaches((ours, n), family, alpha)), None)
    why = (
        "the sessions of the baseline differ from each other"
        if baseline.self_test is not None
        else "the baseline has too few sessions to tell whether sessions differ"
    )
    look = f"; or check with --sessions {more} --spread 1h" if more else ""
    return (
        f"{why}, so whole sessions are compared, and {ours} of the baseline with {sessions} cannot "
        f"show a change at a false-alarm rate of {alpha:g}: record with --sessions {enough}{look}"
    )


def _rows(
    baseline: Baseline, candidate: Sequence[DriftSession], alpha: float
) -> tuple[EvidenceRow, ...]:
    """One row per kind of evidence that the baseline shows."""
    complete = [session for session in candidate if not session.error]
    shown = [evidence for evidence in EVIDENCE if evidence.is_shown(baseline.sessions)]
    rows = [_row(baseline, complete, evidence, len(shown), alpha) for evidence in shown]
    tested = {row.evidence: row.p_value for row in rows if row.p_value is not None}
    adjusted = holm(tested)
    return tuple(replace(row, adjusted=adjusted.get(row.evidence)) for row in rows)


def _row(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    evidence: Evidence,
    family: int,
    alpha: float,
) -> EvidenceRow:
    """The test of one kind of evidence, without the correction for the others."""
    ours = evidence.units(baseline.sessions, baseline.unit)
    theirs = [unit for unit in evidence.units(candidate, baseline.unit) if unit]
    row = EvidenceRow(evidence=evidence.name, units=(len(ours), len(theirs)))
    if not theirs:
        return replace(row, note="not asked")
    if not evidence.is_shown(candidate):
        return replace(row, note="no longer shown")
    if not _reaches(row.units, family, alpha):
        return replace(row, note="too few to show a change")
    stratum = stratum_of(ours, theirs, evidence.unit_distance)
    result = permutation_test([stratum])
    distance = result.statistic * sum(row.units) / (len(ours) * len(theirs))
    within = distance <= (baseline.tolerance or 0.0)
    prompts = len(baseline.probe.of_kind(evidence.kind))
    return replace(
        row,
        p_value=1.0 if within else result.p_value,
        distance=distance,
        would_see=smallest_change(evidence, ours, len(theirs), prompts, alpha / family),
        note="within the tolerance" if within and distance > 0 else "",
    )


def _verdict(
    findings: Sequence[DriftFinding],
    rows: Iterable[EvidenceRow],
    candidate: Sequence[DriftSession],
    alpha: float,
) -> tuple[DriftVerdict, str]:
    tested = [row for row in rows if row.adjusted is not None]
    changed = [row for row in tested if row.adjusted is not None and row.adjusted <= alpha]
    if findings or changed:
        reasons = list(dict.fromkeys(finding.name for finding in findings))
        reasons += [f"{row.evidence} (adjusted p {row.adjusted:.2g})" for row in changed]
        return DriftVerdict.CHANGED, "; ".join(reasons)
    if error := next((session.error for session in candidate if session.error), ""):
        return DriftVerdict.UNKNOWN, error
    if not tested:
        return DriftVerdict.UNKNOWN, "no kind of evidence could be compared"
    least = min(row.adjusted for row in tested if row.adjusted is not None)
    return DriftVerdict.SAME, f"no evidence of a change (smallest adjusted p {least:.2g})"
