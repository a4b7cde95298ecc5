"""Percentiles and their intervals: known ranks, coverage, and samples that depend on each other."""

from __future__ import annotations

import random

import pytest

from pytest_llmengine.statistics.percentiles import independent_samples, percentile


def shuffled(size: int) -> list[float]:
    """The numbers from 1 in random order."""
    return random.Random(1).sample([float(n) for n in range(1, size + 1)], size)


def test_ranks_of_independent_samples() -> None:
    """The value and the ends of the interval have the ranks that tables give."""
    found = percentile(shuffled(100), 0.5)

    assert found is not None
    assert (found.value, found.low, found.high) == (50, 40, 61)
    assert found.samples == 100


@pytest.mark.parametrize(("enough", "share"), [(20, 0.5), (100, 0.9), (1000, 0.99)])
def test_too_few_samples(enough: int, share: float) -> None:
    """One sample fewer has no percentile, since less than ten are beyond it."""
    assert percentile(shuffled(enough), share) is not None
    assert percentile(shuffled(enough)[:-1], share) is None
    assert percentile([], share) is None


@pytest.mark.parametrize("repeats", [1, 10])
def test_intervals_cover_the_true_value(repeats: int) -> None:
    """They do so at the promised rate, also if samples that follow each other are equal."""
    chance = random.Random(2)
    covered = 0
    for _ in range(100):
        drawn = [chance.random() for _ in range(400 // repeats)]
        found = percentile([value for value in drawn for _ in range(repeats)], 0.5)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert covered >= 88  # without regard to dependence it is about 50 of 100


def test_times_that_only_grow_have_no_high_percentiles() -> None:
    """While a queue grows, the latest samples are the slowest, so they are all of one kind."""
    grown = sorted(shuffled(1000))

    assert independent_samples([value > 500 for value in grown]) == pytest.approx(32, abs=2)
    assert percentile(shuffled(1000), 0.99) is not None
    assert percentile(grown, 0.99) is None


def test_equal_values() -> None:
    """An interval of equal values has no width."""
    found = percentile([3.0] * 50, 0.5)
    assert found is not None
    assert found.low == found.value == found.high == 3
