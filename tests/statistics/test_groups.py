"""How far groups of units are from each other."""

from __future__ import annotations

import pytest

from pytest_llmengine.statistics import energy_distance, furthest_group, furthest_third

GROUPS = ([0.0, 1.0], [2.0, 2.5, 3.0], [10.0])


def distance(one: float, other: float) -> float:
    """The difference."""
    return abs(one - other)


def test_the_furthest_group() -> None:
    """It is the one with the largest distance from all others together."""
    first, second, third = GROUPS
    expected = energy_distance(third, [*first, *second], distance)
    assert furthest_group(GROUPS, distance) == pytest.approx(expected)


def test_the_furthest_third() -> None:
    """Of four units outside the first group these are two."""
    expected = energy_distance([0.0, 1.0], [10.0, 3.0], distance)
    assert furthest_third(GROUPS, distance) == pytest.approx(expected)


@pytest.mark.parametrize("furthest", [furthest_group, furthest_third])
@pytest.mark.parametrize("groups", [(), ([1.0, 5.0],)])
def test_one_group_is_not_far_from_itself(furthest: object, groups: tuple) -> None:
    """There is no other."""
    assert callable(furthest)
    assert furthest(groups, distance) == 0
