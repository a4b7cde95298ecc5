"""Whether units that were observed together depend on each other.

Each stratum has the distances between the same passes. If strata are independent, the passes of
each may be put in another order without those of the others. If they are not, the same passes are
far apart in many strata, so that the distances between passes, added up over all strata, are more
unequal than in most other orders. Their sum of squares measures this.
"""

from __future__ import annotations

import random
from itertools import combinations, permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Matrix = Sequence[Sequence[float]]

_DRAWS = 999
_SAME = 1e-12  # statistics that differ only by rounding are ties
_FEWEST = 3  # passes; two have one distance, which no order changes
_MOST_LISTED = 5  # passes, whose orders are listed first; this is faster


def independence_test(strata: Sequence[Matrix], *, draws: int = _DRAWS, seed: int = 0) -> float:
    """The p-value of the hypothesis that strata are independent, from distances of their passes.

    It is 1 if there are too few passes, or if none of them differ.
    """
    varied = [rows for rows in strata if any(map(any, rows))]
    if not varied or len(varied[0]) < _FEWEST:
        return 1.0
    passes = range(len(varied[0]))
    observed = _sum_of_squares(varied, [passes] * len(varied))
    least = observed * (1 - _SAME)
    chance = random.Random(seed)  # noqa: S311  # nosec B311 - repeatable on purpose
    hits = 0
    known = list(permutations(passes)) if len(passes) <= _MOST_LISTED else []
    for _ in range(draws):
        orders = (
            chance.choices(known, k=len(varied))
            if known
            else [chance.sample(passes, len(passes)) for _ in varied]
        )
        hits += _sum_of_squares(varied, orders) >= least
    return (1 + hits) / (1 + draws)


def _sum_of_squares(strata: Sequence[Matrix], orders: Sequence[Sequence[int]]) -> float:
    ordered = list(zip(strata, orders, strict=True))
    return sum(
        sum(rows[order[i]][order[j]] for rows, order in ordered) ** 2
        for i, j in combinations(range(len(orders[0])), 2)
    )
