"""Adjusted p-values of one run, and the smallest change that a test finds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmengine.statistics import (
    fewest_changed,
    fewest_changed_prompts,
    holm,
    permutation_test,
    smallest_rate,
    smallest_shift,
    stratum_of,
    value_distance,
)


def test_holm_by_hand() -> None:
    """The smallest is multiplied by the number of tests, the next by one less, and so on."""
    adjusted = holm({"text": 0.03, "ids": 0.01, "finish reason": 0.02, "schema": 1.0})
    assert adjusted == pytest.approx(
        {"text": 0.06, "ids": 0.04, "finish reason": 0.06, "schema": 1.0}
    )
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_adjusted_p_values_are_bounded_and_keep_their_order(p_values: dict[str, float]) -> None:
    """They are between the p-value and Bonferroni's, and a smaller one stays smaller."""
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    for name, p in p_values.items():
        assert p <= adjusted[name] <= min(1.0, len(p_values) * p)
    by_p = sorted(p_values, key=p_values.__getitem__)
    assert [adjusted[name] for name in by_p] == sorted(adjusted.values())


def test_a_p_value_is_from_0_to_1() -> None:
    """Something that is not a p-value is named."""
    with pytest.raises(ValueError, match="these are not: ids"):
        holm({"text": 0.5, "ids": float("nan")})


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
