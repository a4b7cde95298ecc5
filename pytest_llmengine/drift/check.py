"""The check of a candidate against a baseline: the test of each kind of evidence, and the verdict.

Each kind of evidence has one permutation test of units, which are rounds or sessions. Holm's
correction gives all of them one false-alarm rate. What is found without statistics decides before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.drift.report import ALPHA, DriftReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_llmengine.drift.answers import DriftSession
    from pytest_llmengine.drift.baseline import Baseline, ServerFacts


def judge(
    baseline: Baseline,
    candidate: Sequence[DriftSession],
    *,
    alpha: float = ALPHA,
    facts: ServerFacts | None = None,
) -> DriftReport:
    """The report on a measured candidate."""
    raise NotImplementedError
