"""The permutation test: exact p-values, valid under the null, and sensitive to changes."""

from __future__ import annotations

import random
from itertools import combinations, product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmengine.statistics import (
    Stratum,
    holm,
    logprob_distance,
    permutation_test,
    stratum_of,
    value_distance,
)

ALPHA = 0.05
RUNS = 200
MOST_ALARMS = 20  # of 200 at 5%; a valid test has more with a chance of 0.001


def shift(one: float, other: float) -> float:
    """The distance between two numbers."""
    return abs(one - other)


def text_strata(changed: int, prompts: int = 20, repeats: int = 4) -> list[Stratum]:
    """One stratum per prompt: equal answers of the baseline, and one of the candidate."""
    return [
        stratum_of([("a",)] * repeats, [("b" if n < changed else "a",)], value_distance)
        for n in range(prompts)
    ]


@pytest.mark.parametrize("changed", range(6))
def test_changed_texts_against_a_baseline_that_repeats_itself(changed: int) -> None:
    """Each changed prompt is one of five arrangements, and they are independent."""
    result = permutation_test(text_strata(changed))
    assert result.p_value == pytest.approx(0.2**changed)
    assert result.exact


def test_repeated_answers_have_exact_p_values_at_any_size() -> None:
    """Arrangements that only exchange equal answers are counted, and not drawn."""
    result = permutation_test(text_strata(20))
    assert (result.p_value, result.exact) == (pytest.approx(0.2**20), True)
    rounds = permutation_test([stratum_of(["a"] * 30, ["a"] * 18 + ["b"] * 2, value_distance)])
    assert rounds.exact
    assert rounds.p_value == pytest.approx(comb(20, 2) / comb(50, 2))


def test_a_candidate_that_is_all_different() -> None:
    """No other arrangement of ten units is as extreme, except the one with the sides swapped."""
    same = permutation_test([stratum_of([0.0] * 6, [1.0] * 4, shift)])
    assert same.p_value == 1 / comb(10, 4)
    swapped = permutation_test([stratum_of([0.0] * 5, [1.0] * 5, shift)])
    assert swapped.p_value == 2 / comb(10, 5)


def test_a_part_of_the_distance_may_be_allowed() -> None:
    """It is left out of the observed distance only; then more arrangements are as far apart."""
    stratum = stratum_of([0.0, 0.0], [1.0], shift)
    assert stratum.energy == pytest.approx(4 / 3)  # and 1/3, if another unit is the candidate's
    assert permutation_test([stratum] * 2).p_value == pytest.approx(1 / 9)
    assert permutation_test([stratum] * 2, allowed=4 / 3).p_value == pytest.approx(5 / 9)


def test_a_part_may_be_allowed_if_arrangements_are_drawn() -> None:
    """If all of the distance is allowed, every arrangement is as far apart."""
    chance = random.Random(1)
    numbers = [[chance.random() for _ in range(6)] for _ in range(8)]
    strata = [stratum_of(some[:4], [n + 1 for n in some[4:]], shift) for some in numbers]
    drawn = permutation_test(strata, draws=99)
    assert (drawn.exact, drawn.p_value) == (False, 0.01)
    assert permutation_test(strata, draws=99, allowed=drawn.statistic).p_value == 1


NUMBERS = st.floats(-5, 5) | st.sampled_from([-1.0, 0.0, 0.5])  # some are repeated


@given(
    st.lists(NUMBERS, min_size=2, max_size=5),
    st.lists(NUMBERS, min_size=1, max_size=4),
)
def test_the_p_value_by_hand(baseline: list[float], candidate: list[float]) -> None:
    """The p-value is the share of arrangements whose energy is at least the observed one."""
    values, size = [*baseline, *candidate], len(candidate)

    def energy(chosen: tuple[int, ...]) -> float:
        ours = [v for i, v in enumerate(values) if i not in chosen]
        theirs = [values[i] for i in chosen]
        means = [
            sum(abs(x - y) for x, y in product(one, other)) / (len(one) * len(other))
            for one, other in ((ours, theirs), (ours, ours), (theirs, theirs))
        ]
        return (2 * means[0] - means[1] - means[2]) * len(ours) * size / len(values)

    every = [energy(chosen) for chosen in combinations(range(len(values)), size)]
    observed = energy(tuple(range(len(baseline), len(values))))
    result = permutation_test([stratum_of(baseline, candidate, shift)])
    assert result.statistic == pytest.approx(observed, abs=1e-9)
    assert result.statistic > -1e-9
    certain = sum(value > observed + 1e-8 for value in every) + 1
    possible = sum(value > observed - 1e-8 for value in every)
    assert certain <= round(result.p_value * len(every)) <= possible


def correlated_rounds(chance: random.Random, rounds: int) -> list[list[float]]:
    """Rounds of eight prompts that share heavy-tailed noise."""
    shared = [chance.gauss() / max(abs(chance.gauss()), 0.05) for _ in range(rounds)]
    return [[one + chance.gauss(0, 0.1) for _ in range(8)] for one in shared]


def round_distance(one: list[float], other: list[float]) -> float:
    """The sum of the distances per prompt."""
    return sum(abs(x - y) for x, y in zip(one, other, strict=True))


def test_correlated_prompts_with_heavy_tails_give_no_false_alarms() -> None:
    """Rounds are permuted as a whole, so noise that all prompts share is no evidence."""
    chance = random.Random(1)
    alarms = 0
    for run in range(RUNS):
        units = correlated_rounds(chance, 14)
        stratum = stratum_of(units[:8], units[8:], round_distance)
        alarms += permutation_test([stratum], draws=99, seed=run).p_value <= ALPHA
    assert 1 <= alarms <= MOST_ALARMS


def test_prompts_as_units_would_give_false_alarms() -> None:
    """With the same noise, a test that permutes prompts one by one is not valid."""
    chance = random.Random(1)
    alarms = 0
    for run in range(100):
        units = correlated_rounds(chance, 6)
        strata = [stratum_of([r[n] for r in units[:5]], [units[5][n]], shift) for n in range(8)]
        alarms += permutation_test(strata, draws=99, seed=run).p_value <= ALPHA
    assert alarms > 12  # of 100 at 5%; a valid test has more with a chance of 0.001


def test_a_larger_shift_has_no_larger_p_value() -> None:
    """The same noise, shifted further and further."""
    chance = random.Random(2)
    noise = [chance.gauss() for _ in range(12)]
    p_values = [
        permutation_test([stratum_of(noise[:6], [x + d for x in noise[6:]], shift)]).p_value
        for d in (1.0, 2.0, 4.0, 8.0)
    ]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] == 2 / comb(12, 6)


def test_a_result_repeats() -> None:
    """The same seed gives the same p-value, and names of units have no effect."""
    chance = random.Random(3)
    values = [chance.gauss() for _ in range(24)]
    results = [
        permutation_test([stratum_of(values[:12], values[12:], shift)], draws=199, seed=5)
        for _ in range(2)
    ]
    assert results[0] == results[1]
    assert not results[0].exact


def test_equal_units_are_equal() -> None:
    """A deterministic server that has not changed has the p-value 1."""
    result = permutation_test([stratum_of([("a", "b")] * 20, [("a", "b")] * 10, value_distance)])
    assert (result.p_value, result.statistic) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": -0.5, "b": -2.0}, {"a": -0.5, "b": -2.0}, 0.0),
        ({"a": -0.5, "b": -2.0}, {"a": -0.50005, "b": -2.0}, 0.0),  # the rounding of float32
        ({"a": -0.5, "b": -2.0}, {"a": -0.7, "b": -2.0}, 0.1),
        ({"a": -0.5, "b": -2.0}, {"a": -0.5, "c": -2.2}, 0.2 / 3 * 2),  # b is at most -2.2
        ({"a": -0.5}, {"a": -90.0}, 1.0),  # capped
        ({}, {"a": -0.5}, 1.0),  # log-probabilities are missing from one side
        ({}, {}, 0.0),
    ],
)
def test_log_probabilities(one: dict[str, float], other: dict[str, float], expected: float) -> None:
    """The mean difference over the tokens; a token that is not listed counts as the last one."""
    assert logprob_distance([one], [other]) == pytest.approx(expected)
    assert logprob_distance([other], [one]) == pytest.approx(expected)
    assert logprob_distance([one, one], [other, other]) == pytest.approx(2 * expected)


def test_both_samples_need_a_unit() -> None:
    """A test without a sample is an error, not a p-value."""
    with pytest.raises(ValueError, match="3 of 3 units belong to the baseline; both samples need"):
        stratum_of([1.0, 2.0, 3.0], [], shift)


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
