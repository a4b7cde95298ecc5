"""The smallest change that a check of some size finds, so that "same" says what it excludes.

If all units of the baseline are equal, and there is no tolerance, the answer is exact. Else
candidates are simulated: units of the baseline are drawn, changed and tested, with a bisection on
the size of the change.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.statistics import fewest_changed, smallest_rate
from pytest_llmengine.statistics.two_sample import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_llmengine.drift.evidence import Evidence, Features, Unit

    Change = Callable[[Any, float, random.Random], Any]

_RUNS, _FOUND = 20, 19  # simulated candidates per size, and how many must be found: 95%
_STEPS = 6  # of the bisection, on a scale of factors
_MARGIN = 2  # times as many arrangements as the level needs
_NOTHING = "nothing"
_CHANGED = object()  # a value that no answer has


@dataclass(frozen=True, slots=True)
class CheckSize:
    """The candidate's units, the prompts, the level of one row, and its tolerance."""

    units: int
    prompts: int
    level: float
    tolerance: float


def smallest_change(evidence: Evidence, baseline: Sequence[Unit], check: CheckSize) -> str:
    """The smallest change that a check of this size finds, in words.

    It is how far all log-probabilities differ, the number of prompts whose value is always another,
    or the share of all values that are others, drawn at random.
    """
    varies = any(evidence.unit_distance(baseline[0], unit) for unit in baseline)
    is_exact = not varies and not check.tolerance
    # Scored answers are sampled, so a change does not reach the same ones in each round.
    is_sampled = evidence.kind is RoundKind.SCORED
    if evidence.is_numeric and not (is_exact and is_sampled):
        size = ROUNDING if is_exact else _simulated(evidence, baseline, check, _shifted)
        return f"{size:.2g} nats" if size else _NOTHING
    if not is_exact:
        size = _simulated(evidence, baseline, check, _replaced)
        return f"{size:.1%} at random" if size else _NOTHING
    fewest = fewest_changed(len(baseline), check.units, check.level)
    rate = None if fewest is None else smallest_rate(check.units, fewest)
    if rate is None:
        return _NOTHING
    # A unit has changed if any of its values has.
    values = check.prompts * len(baseline[0])
    share = f"{1 - (1 - rate) ** (1 / values):.0%} at random"
    return share if is_sampled else f"1 prompt, or {share}"


def _simulated(
    evidence: Evidence, baseline: Sequence[Unit], check: CheckSize, change: Change
) -> float | None:
    """The smallest size of a change that is found in 95% of the simulated candidates."""
    draws = math.ceil(_MARGIN / check.level)
    # One round of each session is enough: it varies more, so the size is not too small.
    baseline = [unit[:1] for unit in baseline]

    def is_found(size: float) -> bool:
        missed = 0
        for run in range(_RUNS):
            # Every size is tried with the same candidates.
            chance = random.Random(run)  # noqa: S311  # nosec B311 - repeatable on purpose
            drawn = chance.choices(baseline, k=check.units)
            units = [[change(one, size, chance) for one in unit] for unit in drawn]
            p_value, distance = evidence.test(baseline, units, draws)
            missed += p_value > check.level or (distance or 0.0) <= check.tolerance
            if missed > _RUNS - _FOUND:
                return False
        return True

    if not is_found(1.0):
        return None
    low, high = math.log(ROUNDING), 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(math.exp(middle)) else (middle, high)
    return math.exp(high)


def _shifted(features: Features, size: float, _chance: random.Random) -> Features:
    """Log-probabilities that are higher or lower by this size, always the same tokens.

    Values that are numbers are all higher.
    """
    return [
        feature + size
        if isinstance(feature, float)
        else feature and {t: value + _sign(prompt, t) * size for t, value in feature.items()}
        for prompt, feature in enumerate(features)
    ]


def _sign(prompt: int, token: str) -> int:
    return 1 if crc32(f"{prompt} {token}".encode()) % 2 else -1


def _replaced(features: Features, rate: float, chance: random.Random) -> Features:
    """Values of which this share is replaced by others."""
    return [_CHANGED if chance.random() < rate else value for value in features]
