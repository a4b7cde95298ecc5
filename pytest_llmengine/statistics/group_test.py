"""A permutation test of whether groups of units differ from each other."""

from __future__ import annotations

import random
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from pytest_llmengine.statistics.two_sample import DRAWS

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
        total += sum(rows[i][j] for i, j in combinations(group, 2)) / size
        start += size
    return total
