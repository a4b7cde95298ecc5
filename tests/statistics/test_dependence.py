"""Whether strata depend on each other: the rate of false alarms, and shared noise that is seen."""

from __future__ import annotations

import random

import pytest

from pytest_llmengine.statistics.dependence import independence_test

PASSES = 4
STRATA = 12


def matrix(values: list[int]) -> list[list[float]]:
    """The distances between passes that have these values."""
    return [[float(one != other) for other in values] for one in values]


def test_independent_strata_are_rarely_accused() -> None:
    """At 10%, of 100 simulations at most 21, which a valid test exceeds once in 2,000 times."""
    chance = random.Random(1)

    def one() -> float:
        strata = [matrix([chance.randrange(2) for _ in range(PASSES)]) for _ in range(STRATA)]
        return independence_test(strata, draws=99)

    assert sum(one() <= 0.1 for _ in range(100)) <= 21


@pytest.mark.parametrize("values", [[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 2, 2]])
def test_passes_that_differ_in_every_stratum_are_seen(values: list[int]) -> None:
    """Whether one pass is odd, or two are against two others."""
    assert independence_test([matrix(values)] * STRATA) == pytest.approx(0.001)
    assert independence_test([matrix([*values, 3, 3])] * STRATA, draws=199) == pytest.approx(0.005)


def test_without_anything_to_see() -> None:
    """Passes that are equal, or two of them, say nothing."""
    assert independence_test([matrix([1, 1, 1])] * STRATA) == 1
    assert independence_test([matrix([0, 1])] * STRATA) == 1
    assert independence_test([]) == 1
