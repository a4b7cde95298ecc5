"""Whether groups of units differ from each other, by a permutation test, and how far."""

from __future__ import annotations

import random
from itertools import combinations
from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from pytest_llmengine.statistics.two_sample import DRAWS, energy_distance, mean_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Unit = TypeVar("Unit")

_SAME = 1e-12  # of all distances; statistics that differ only by rounding are ties


def group_test(
    groups: Sequence[Sequence[Unit]],
    distance: Callable[[Unit, Unit], float],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float | None:
    """The p-value of the hypothesis that the units of all groups have the same distribution.

    The statistic is the dispersion within the groups, which is small if the groups differ (Rizzo
    and Székely, "DISCO analysis", 2010). None if this cannot be tested: there must be two groups,
    and one of them must have two units.
    """
    sizes = [len(group) for group in groups if group]
    if len(sizes) < 2 or max(sizes) < 2:  # noqa: PLR2004 - a pair
        return None
    units = [unit for group in groups for unit in group]
    rows = [[0.0] * len(units) for _ in units]
    for i, j in combinations(range(len(units)), 2):
        rows[i][j] = rows[j][i] = distance(units[i], units[j])
    total = sum(map(sum, rows))
    if not total:  # all units are equal
        return 1.0
    order = list(range(len(units)))
    most = _within(rows, order, sizes) + _SAME * total
    chance = random.Random(seed)  # noqa: S311  # nosec B311 - repeatable on purpose
    hits = 0
    for _ in range(draws):
        chance.shuffle(order)
        hits += _within(rows, order, sizes) <= most
    return (1 + hits) / (1 + draws)


def _within(rows: Sequence[Sequence[float]], order: Sequence[int], sizes: Sequence[int]) -> float:
    """The dispersion within the groups: per group, the mean distance times the size."""
    total, start = 0.0, 0
    for size in sizes:
        group = order[start : start + size]
        if size > 1:  # else an itemgetter gives no tuple
            columns = itemgetter(*group)  # many times as fast as a loop over pairs
            total += sum(sum(columns(rows[i])) for i in group) / (2 * size)
        start += size
    return total


def furthest_group(
    groups: Sequence[Sequence[Unit]], distance: Callable[[Unit, Unit], float]
) -> float:
    """The largest energy distance of a group from all others together, 0 if there is no other.

    Each group must have a unit.
    """
    if len(groups) < 2:  # noqa: PLR2004 - a pair
        return 0.0
    sizes = [len(group) for group in groups]
    sums = [[0.0] * len(groups) for _ in groups]
    for i, one in enumerate(groups):
        for j, other in enumerate(groups[: i + 1]):
            total = mean_distance(one, other, distance) * len(one) * len(other)
            sums[i][j] = sums[j][i] = total
    return max(_from_others(n, sizes, sums) for n in range(len(groups)))


def furthest_third(
    groups: Sequence[Sequence[Unit]], distance: Callable[[Unit, Unit], float]
) -> float:
    """The energy distance between the first group and the furthest third of all other units.

    It is 0 if there is no other group. Each group must have a unit.
    """
    if len(groups) < 2:  # noqa: PLR2004 - a pair
        return 0.0
    first, *others = groups
    units = [unit for group in others for unit in group]
    units.sort(key=lambda unit: mean_distance([unit], first, distance), reverse=True)
    return energy_distance(first, units[: ceil(len(units) / 3)], distance)


def _from_others(n: int, sizes: Sequence[int], sums: Sequence[Sequence[float]]) -> float:
    """The energy distance of a group from all others, from the sums of their distances."""
    size, others = sizes[n], sum(sizes) - sizes[n]
    across = sum(sums[n]) - sums[n][n]
    among_others = sum(map(sum, sums)) - 2 * across - sums[n][n]
    return 2 * across / (size * others) - sums[n][n] / size**2 - among_others / others**2
