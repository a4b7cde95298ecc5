"""The smallest change that a test finds, against the test itself."""

from __future__ import annotations

import random

import pytest

from pytest_llmengine.statistics import (
    fewest_changed,
    fewest_changed_prompts,
    first_found,
    permutation_test,
    smallest_rate,
    smallest_shift,
    stratum_of,
    value_distance,
)


@pytest.mark.parametrize("sizes", [(9, 6), (8, 8), (5, 9), (6, 3)])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_fewest_changed_answers_are_those_of_the_test(
    sizes: tuple[int, int], alpha: float
) -> None:
    """With so many changed answers the permutation test rejects; with one less it does not."""
    baseline, candidate = sizes

    def p_value(changed: int) -> float:
        answers = [("b" if n < changed else "a",) for n in range(candidate)]
        stratum = stratum_of([("a",)] * baseline, answers, value_distance)
        return permutation_test([stratum], draws=12_870).p_value

    fewest = fewest_changed(baseline, candidate, alpha)
    if fewest is None:
        assert p_value(candidate) > alpha
        return
    assert p_value(fewest) <= alpha
    assert p_value(fewest - 1) > alpha


@pytest.mark.parametrize(("repeats", "alpha", "fewest"), [(4, 0.01, 3), (4, 0.05, 2), (9, 0.01, 2)])
def test_the_fewest_changed_prompts_are_those_of_the_test(
    repeats: int, alpha: float, fewest: int
) -> None:
    """As many as the permutation within each prompt needs; one less is not found."""
    assert fewest_changed_prompts(repeats, alpha) == fewest

    def p_value(changed: int) -> float:
        ours = [("a",)] * repeats
        answers = [("b" if n < changed else "a",) for n in range(12)]
        strata = [stratum_of(ours, [answer], value_distance) for answer in answers]
        return permutation_test(strata).p_value

    assert p_value(fewest) <= alpha < p_value(fewest - 1)


def test_the_smallest_rate_is_found_19_times_in_20() -> None:
    """One changed answer of 60 is needed: 5% of the answers must change; three need 10%."""
    assert smallest_rate(60, 1) == pytest.approx(1 - 0.05 ** (1 / 60))
    three = smallest_rate(60, 3)
    assert three == pytest.approx(0.1013, abs=1e-4)
    chance = random.Random(4)
    found = sum(sum(chance.random() < three for _ in range(60)) >= 3 for _ in range(2000))
    assert found / 2000 == pytest.approx(0.95, abs=0.02)
    assert smallest_rate(2, 3) is None


def test_the_smallest_shift() -> None:
    """A mean of four normal values is above 2 in 95% of the runs if they are shifted by 2.82."""

    def is_found(shift: float, chance: random.Random) -> bool:
        return sum(chance.gauss(shift) for _ in range(4)) / 4 > 2

    found = smallest_shift(is_found, 10.0, runs=1000)
    assert found == pytest.approx(2 + 1.645 / 2, abs=0.1)
    assert smallest_shift(is_found, 1.0) is None


def test_the_first_size_that_is_found() -> None:
    """It is found in 95% of the runs; a size that is too small is given up soon."""
    tried: list[float] = []

    def is_found(size: float, chance: random.Random) -> bool:
        tried.append(size)
        return chance.random() < size

    assert first_found(is_found, [0.5, 0.9, 1.0]) == 1.0
    assert tried.count(0.5) < 20 < tried.count(1.0) == 40
    assert first_found(is_found, [0.1, 0.2]) is None
