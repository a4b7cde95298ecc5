"""Percentiles of measured times, with confidence intervals, if there are enough samples for them.

The interval is that of two order statistics, whose ranks follow from the binomial distribution, so
nothing is assumed about the distribution of the times. Times that follow each other often depend
on each other: all requests wait while a server is busy. Then a sample says less than its size
suggests. How much less is estimated from the means of consecutive batches of samples (Alexopoulos
and Seila, "Output data analysis", 1998), and the interval is that of as many independent samples.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, exp, floor, isqrt, lgamma, log, sqrt
from statistics import variance
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST_BEYOND = 10
"""How many samples must be beyond a percentile, so that it does not depend on one or two."""
CONFIDENCE = 0.95

_ROUNDING = 1e-9
_WIDTH = 8  # standard deviations of a binomial distribution, beyond which nothing counts


@dataclass(frozen=True, slots=True)
class Percentile:
    """The value below which a share of the samples is, and its confidence interval."""

    share: float
    value: float
    low: float
    high: float
    samples: int


def percentile(
    values: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> Percentile | None:
    """The percentile of values in the order in which they were measured.

    None if there are too few: on each side there must be `FEWEST_BEYOND`, and there must be enough
    independent ones for an interval.
    """
    size = len(values)
    if size * min(share, 1 - share) < FEWEST_BEYOND - _ROUNDING:
        return None
    ordered = sorted(values)
    value = ordered[ceil(size * share - _ROUNDING) - 1]
    independent = min(size, floor(independent_samples([one <= value for one in values])))
    ranks = _ranks(independent, share, (1 - confidence) / 2)
    if ranks is None:
        return None
    low = max(1, floor(ranks[0] * size / independent))
    high = min(size, ceil(ranks[1] * size / independent))
    return Percentile(share, value, ordered[low - 1], ordered[high - 1], size)


def independent_samples(flags: Sequence[bool]) -> float:
    """How many independent samples have a share as certain as the share of these, in their order.

    If the flags are independent, this is about their number; it is never more.
    """
    size, share = len(flags), sum(flags) / len(flags)
    count = isqrt(size)  # of batches, each of about as many samples
    if count < 2 or share in {0.0, 1.0}:  # noqa: PLR2004 - one batch has no variance
        return float(size)
    bounds = [n * size // count for n in range(count + 1)]
    means = [sum(flags[start:end]) / (end - start) for start, end in pairwise(bounds)]
    dependence = size / count * variance(means) / (share * (1 - share))
    return size / max(1.0, dependence)


def _ranks(size: int, share: float, tail: float) -> tuple[int, int] | None:
    """The ranks, from 1, of the ends of the interval; None if an end is beyond all samples.

    Of `size` independent samples, a binomially distributed number is below the percentile. Each
    end is missed with at most the probability `tail`.
    """
    spread = _WIDTH * (sqrt(size * share * (1 - share)) + 1)
    first = max(0, floor(size * share - spread))
    last = min(size, ceil(size * share + spread))
    cumulated = list(accumulate(_probability(size, n, share) for n in range(first, last + 1)))
    low = first + bisect_right(cumulated, tail)
    high = first + bisect_right(cumulated, 1 - tail) + 1
    return (low, high) if low >= 1 and high <= size else None


def _probability(size: int, number: int, share: float) -> float:
    ways = lgamma(size + 1) - lgamma(number + 1) - lgamma(size - number + 1)
    return exp(ways + number * log(share) + (size - number) * log(1 - share))
