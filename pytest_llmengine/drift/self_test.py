"""The test of a baseline against itself, which decides what a check may exchange.

A check exchanges rounds of the baseline with rounds of the candidate. This is valid only if the
sessions of the baseline do not differ: if the load, the replica or the hour changes all answers of
a session, the candidate's session differs too although nothing else has changed. If the sessions
differ, or if there are too few to tell, whole sessions are exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.evidence import evidence_of
from pytest_llmengine.statistics import group_test, holm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.drift.answers import DriftSession

LEVEL = 0.05
"""Sessions differ if the p-value is at most this."""


def self_test(sessions: Sequence[DriftSession]) -> float | None:
    """The p-value of the hypothesis that the sessions do not differ in any kind of evidence.

    None if there are not two sessions with two rounds, which is what a test needs.
    """
    p_values = {}
    for evidence in evidence_of(sessions):
        groups = [evidence.features(session) for session in sessions]
        p_value = group_test(groups, evidence.distance)
        if p_value is not None:
            p_values[evidence.name] = p_value
    return min(holm(p_values).values(), default=None)


def unit_of(p_value: float | None) -> DriftUnit:
    """The unit for a baseline with this p-value."""
    return DriftUnit.SESSION if p_value is None or p_value <= LEVEL else DriftUnit.ROUND
