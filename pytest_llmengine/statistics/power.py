"""The smallest change that a test finds, so that "the same" says what it excludes."""

from __future__ import annotations

import random
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

POWER = 0.95
_STEPS = 40  # of a bisection; the rest is far below what is printed
_SHIFT_STEPS = 10
_EXACT = 1e-9  # 5% of 40 runs are two of them


def fewest_changed(baseline: int, candidate: int, alpha: float) -> int | None:
    """How many of the candidate's units must differ for a p-value of at most alpha.

    All of the baseline's units are equal. The candidate's others are equal to them, and those that
    differ are equal to each other. This is Fisher's exact test, two-sided in the difference of the
    two shares, which is how `permutation_test` orders these arrangements. None if even a
    candidate that differs in every unit is not found.
    """
    return next(
        (
            changed
            for changed in range(1, candidate + 1)
            if _p_value(changed, baseline, candidate) <= alpha
        ),
        None,
    )


def _p_value(changed: int, baseline: int, candidate: int) -> float:
    observed = changed / candidate
    ways = sum(
        comb(candidate, here) * comb(baseline, changed - here)
        for here in range(changed + 1)
        if abs(here / candidate - (changed - here) / baseline) >= observed - 1e-12
    )
    return ways / comb(baseline + candidate, changed)


def fewest_changed_prompts(repeats: int, alpha: float) -> int:
    """How many prompts must have another answer for a p-value of at most alpha.

    Each prompt is a stratum with so many equal answers of the baseline, and one of the candidate.
    The odd one is the candidate's in one of ``repeats + 1`` arrangements, independently per prompt.
    """
    fewest, p_value = 0, 1.0
    while p_value > alpha:
        fewest += 1
        p_value /= repeats + 1
    return fewest


def smallest_rate(size: int, fewest: int, power: float = POWER) -> float | None:
    """The smallest rate of changed units with which a test that needs ``fewest`` finds a change.

    The candidate has ``size`` units, each of which changes with this rate, so their number is
    binomial. None if there are fewer units than the test needs.
    """
    if fewest > size:
        return None
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(fewest, size, middle) >= power else (middle, high)
    return high


def _at_least(fewest: int, size: int, rate: float) -> float:
    """The chance that a binomial number is at least this."""
    return 1 - sum(comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in range(fewest))


def smallest_shift(
    is_found: Callable[[float, random.Random], bool],
    largest: float,
    *,
    runs: int = 100,
    power: float = POWER,
    seed: int = 0,
) -> float | None:
    """The smallest shift that is found in the given share of simulated runs, by bisection.

    ``is_found`` makes a candidate with this shift from the source of chance, and tests it. Every
    shift is tried with the same chances, so that a larger shift is not missed by bad luck. The
    answer is exact to a thousandth of ``largest``. None if not even ``largest`` is found.
    """

    def is_seen(shift: float) -> bool:
        chances = (random.Random(f"{seed} {run}") for run in range(runs))  # noqa: S311  # nosec B311 - repeatable
        return sum(is_found(shift, chance) for chance in chances) >= power * runs

    if not is_seen(largest):
        return None
    low, high = 0.0, largest
    for _ in range(_SHIFT_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high


def first_found(
    is_found: Callable[[float, random.Random], bool],
    sizes: Iterable[float],
    *,
    runs: int = 40,
    power: float = POWER,
    seed: int = 0,
) -> float | None:
    """The first of these sizes, in rising order, that is found in the given share of runs.

    It is as `smallest_shift`, for slow tests: a size that is too small is given up after a few
    runs. None if no size is found.
    """
    misses = int((1 - power) * runs + _EXACT)

    def is_seen(size: float) -> bool:
        left = misses
        for run in range(runs):
            if not is_found(size, random.Random(f"{seed} {run}")):  # noqa: S311  # nosec B311 - repeatable
                left -= 1
            if left < 0:
                return False
        return True

    return next(filter(is_seen, sizes), None)
