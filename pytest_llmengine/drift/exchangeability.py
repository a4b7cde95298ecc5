"""The tests of a baseline against itself, which decide what checks and looks may exchange.

A check exchanges rounds of the baseline with rounds of the candidate. This is valid only if the
sessions of the baseline do not differ: if the load, the replica or the hour changes all answers of
a session, the candidate's session differs too although nothing else has changed. If the sessions
differ, or if there are too few to tell, whole sessions are exchanged.

Looks of a watch may be months apart. If answers depend on the number of requests in flight, the
load of the server decides about them as well, and rounds cannot be exchanged for so long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.drift.evidence import Evidence, evidence_of
from pytest_llmengine.statistics import group_test, holm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmengine.drift.answers import DriftSession
    from pytest_llmengine.drift.baseline import Baseline
    from pytest_llmengine.drift.evidence import Features

LEVEL = 0.05
"""Sessions or loads differ if the p-value is at most this."""

_DRAWS = 999  # enough for this level, also for the smallest of many p-values


def self_test(sessions: Sequence[DriftSession]) -> float | None:
    """The p-value of the hypothesis that the sessions do not differ in any kind of evidence.

    None if there are not two sessions with two rounds, which is what a test needs.
    """
    return _smallest_p_value(sessions, Evidence.by_session)


def load_dependence(sessions: Sequence[DriftSession]) -> float | None:
    """The same about rounds with different numbers of requests in flight."""
    return _smallest_p_value(sessions, Evidence.by_load)


def _smallest_p_value(
    sessions: Sequence[DriftSession],
    groups: Callable[[Evidence, Sequence[DriftSession]], list[list[Features]]],
) -> float | None:
    p_values = {}
    for evidence in evidence_of(sessions):
        p_value = group_test(groups(evidence, sessions), evidence.distance, draws=_DRAWS)
        if p_value is not None:
            p_values[evidence.name] = p_value
    return min(holm(p_values).values(), default=None)


def depends_on_load(baseline: Baseline) -> bool:
    """Whether the answers of a baseline depend on the number of requests in flight."""
    return baseline.load_dependence is not None and baseline.load_dependence <= LEVEL


def unit_of(p_value: float | None) -> DriftUnit:
    """The unit for a baseline with this p-value."""
    return DriftUnit.SESSION if p_value is None or p_value <= LEVEL else DriftUnit.ROUND
