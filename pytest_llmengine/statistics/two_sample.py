"""A two-sample permutation test for every kind of evidence about a model, and several in one run.

The test compares units of a baseline with units of a candidate. A unit is what may change places
if both are the same: one answer, one round over all prompts, or one session. The answers within a
unit may depend on each other in any way, so a round protects against noise that all its prompts
share, and a session against noise that all its rounds share.

A kind of evidence is a distance between two units: `logprob_distance` for log-probabilities,
`value_distance` for texts, token ids, finish reasons and everything else that is equal or not.

The statistic is the energy distance between the two samples (Székely and Rizzo, "Energy
statistics", 2013). The p-value is exact if the arrangements of the units have few energies, as they
have on a server whose answers repeat. Else it is ``(1 + hits) / (1 + draws)`` over random
arrangements, which is valid for any number of draws (Phipson and Smyth, "Permutation p-values
should never be zero", 2010).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product, starmap
from math import ceil, comb, fsum
from operator import add
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

Unit = TypeVar("Unit")
Logprobs = Mapping[str, float]
"""The likeliest tokens at one position, with their log-probabilities."""

ROUNDING = 1e-4
"""Differences of log-probabilities up to this may be rounding of float32, and count as none."""
CAP = 1.0
"""Larger differences of one log-probability count as this, so that no token outweighs the rest."""

DRAWS = 9_999
_SAME = 1e-12  # of all distances; statistics that differ only by rounding are ties


def value_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """The number of prompts for which two units have other values."""
    return float(sum(x != y for x, y in zip(one, other, strict=True)))


def logprob_distance(one: Sequence[Logprobs], other: Sequence[Logprobs]) -> float:
    """The mean difference of log-probabilities, added up over the prompts.

    A server shows only its likeliest tokens. A token that is in one list only counts as if the
    other list had it with its lowest log-probability, as in logprob tracking (Chauvin and others,
    arXiv 2512.03816).
    """
    return fsum(starmap(_difference, zip(one, other, strict=True)))


def _difference(one: Logprobs, other: Logprobs) -> float:
    tokens = one.keys() | other.keys()
    if not one or not other:
        return CAP if tokens else 0.0
    lowest, lowest_other = min(one.values()), min(other.values())
    # Sets of strings have another order in every process; fsum gives the same sum in any order.
    return fsum(
        _counted(one.get(token, lowest), other.get(token, lowest_other)) for token in tokens
    ) / len(tokens)


def _counted(one: float, other: float) -> float:
    difference = abs(one - other)
    return 0.0 if difference <= ROUNDING else min(difference, CAP)


@dataclass(frozen=True, slots=True)
class Stratum:
    """Units that may change places with each other, as the distances between them.

    The first ``baseline`` units are the baseline's, the others the candidate's.
    """

    distances: Sequence[Sequence[float]]
    baseline: int

    def __post_init__(self) -> None:
        if not 0 < self.baseline < len(self.distances):
            raise ValueError(
                f"{self.baseline} of {len(self.distances)} units belong to the baseline; both "
                "samples need one at least"
            )

    @property
    def units(self) -> int:
        """The number of units of both samples."""
        return len(self.distances)

    @property
    def candidate(self) -> int:
        """The number of units of the candidate."""
        return self.units - self.baseline

    @property
    def arrangements(self) -> int:
        """In how many ways the units can be divided into two samples of these sizes."""
        return comb(self.units, self.candidate)

    @property
    def energy(self) -> float:
        """The energy distance between the two samples, weighted by their sizes."""
        energy = _Energy(self)
        return energy.of(energy.observed)


def stratum_of(
    baseline: Sequence[Unit], candidate: Sequence[Unit], distance: Callable[[Unit, Unit], float]
) -> Stratum:
    """The stratum of these units."""
    units = [*baseline, *candidate]
    rows = [[0.0] * len(units) for _ in units]
    for i, j in combinations(range(len(units)), 2):
        rows[i][j] = rows[j][i] = distance(units[i], units[j])
    return Stratum(rows, len(baseline))


def mean_distance(
    some: Sequence[Unit], others: Sequence[Unit], distance: Callable[[Unit, Unit], float]
) -> float:
    """The mean distance between a unit of one sample and a unit of the other."""
    return fsum(starmap(distance, product(some, others))) / (len(some) * len(others))


def energy_distance(
    one: Sequence[Unit], other: Sequence[Unit], distance: Callable[[Unit, Unit], float]
) -> float:
    """The energy distance between two samples, which is 0 if they are equal.

    It is twice the mean distance across the samples, without the mean distance within each.
    """
    within = mean_distance(one, one, distance) + mean_distance(other, other, distance)
    return 2 * mean_distance(one, other, distance) - within


@dataclass(frozen=True, slots=True)
class PermutationResult:
    """The outcome of a permutation test.

    ``statistic`` is the energy distance, which is 0 if the samples are equal. ``arrangements`` is
    the number of arrangements that were compared, the observed one included. It is ``exact`` if
    these are all that exist.
    """

    p_value: float
    statistic: float
    arrangements: int
    exact: bool


def permutation_test(
    strata: Sequence[Stratum], *, draws: int = DRAWS, seed: int = 0, allowed: float = 0.0
) -> PermutationResult:
    """Test whether baseline and candidate have the same distribution within each stratum.

    One stratum of rounds tests prompts that depend on each other. One stratum per prompt tests
    prompts that do not, and needs fewer answers: with four equal answers of the baseline and one of
    the candidate per prompt, three other answers have a p-value of 0.008.

    ``allowed`` is the part of the statistic that a change may have which the hypothesis allows. The
    rest is compared with the whole statistic of other arrangements. Energies are not negative, so
    this has no more false alarms than a test without what changed.
    """
    # Strata of equal units have the energy 0 in every arrangement.
    varied = [energy for energy in map(_Energy, strata) if energy.total]
    total = sum(energy.total for energy in varied)
    observed = [energy.of(energy.observed) for energy in varied]
    counts = _all_sums(varied, _SAME * total, draws + 1)
    if counts is not None:
        # Each energy is rounded to a whole number of ties, and so may be off by one.
        least = sum(round(one / (_SAME * total)) for one in observed) - len(varied)
        least -= ceil(allowed / (_SAME * total)) if allowed else 0
        arrangements = sum(counts.values())
        hits = sum(count for energy, count in counts.items() if energy >= least)
        return PermutationResult(hits / arrangements, fsum(observed), arrangements, exact=True)
    chance = random.Random(seed)  # noqa: S311  # nosec B311 - repeatable on purpose
    drawn = [0.0] * draws
    for energy in varied:
        drawn = list(map(add, drawn, energy.drawn(draws, chance)))
    hits = sum(one >= fsum(observed) - allowed - _SAME * total for one in drawn)
    return PermutationResult((1 + hits) / (1 + draws), fsum(observed), draws + 1, exact=False)


def _all_sums(energies: Sequence[_Energy], tie: float, limit: int) -> Mapping[int, int] | None:
    """How many arrangements of all strata have each sum of energies, counted in ties.

    None if there are more kinds of arrangements than the limit.
    """
    sums: Mapping[int, int] = {0: 1}
    for energy in energies:
        if len(sums) * energy.kinds > limit:
            return None
        added: Counter[int] = Counter()
        for (one, count), (other, times) in product(sums.items(), energy.all()):
            added[one + round(other / tie)] += count * times
        sums = added
    return sums


class _Energy:
    """The energy distance between the samples of a stratum, for any arrangement of its units.

    All pairs of units are added up once, so a choice costs only the pairs of the candidate. Units
    with equal distances to all units are alike: which of them are chosen makes no difference.
    """

    def __init__(self, stratum: Stratum) -> None:
        self.stratum = stratum
        self.observed = tuple(range(stratum.baseline, stratum.units))
        self.sums = [fsum(row) for row in stratum.distances]
        self.total = fsum(self.sums) / 2
        alike: dict[tuple[float, ...], list[int]] = {}
        for unit, row in enumerate(stratum.distances):
            alike.setdefault(tuple(row), []).append(unit)
        self.alike = list(alike.values())

    def of(self, chosen: Sequence[int]) -> float:
        """The energy distance if the candidate has these units, weighted by the sizes."""
        rows, stratum = self.stratum.distances, self.stratum
        n, m = stratum.baseline, stratum.candidate
        within = sum(rows[i][j] for i, j in combinations(chosen, 2))
        across = sum(self.sums[i] for i in chosen) - 2 * within
        rest = self.total - within - across
        return (2 * across - 2 * within * n / m - 2 * rest * m / n) / (n + m)

    @property
    def kinds(self) -> int:
        """In how many ways units can be chosen, if units that are alike are not told apart."""
        ways = [1, *[0] * self.stratum.candidate]
        for units in self.alike:
            ways = [sum(ways[max(0, n - len(units)) : n + 1]) for n in range(len(ways))]
        return ways[-1]

    def all(self) -> list[tuple[float, int]]:
        """The energies of all kinds of choices, with the number of choices of the kind."""
        choices = _choices(self.alike, self.stratum.candidate)
        return [(self.of(chosen), count) for chosen, count in choices]

    def drawn(self, draws: int, chance: random.Random) -> Iterator[float]:
        """The energies of random choices."""
        if self.kinds <= draws:
            energies, counts = zip(*self.all(), strict=True)
            yield from chance.choices(energies, counts, k=draws)
            return
        units, m = range(self.stratum.units), self.stratum.candidate
        for _ in range(draws):
            yield self.of(chance.sample(units, m))


def _choices(alike: Sequence[Sequence[int]], size: int) -> Iterator[tuple[list[int], int]]:
    """One choice of so many units per kind, and how many choices are of this kind."""
    if not alike:
        yield [], 1
        return
    first, *others = alike
    left = sum(map(len, others))
    for n in range(max(0, size - left), min(size, len(first)) + 1):
        for chosen, count in _choices(others, size - n):
            yield [*first[:n], *chosen], comb(len(first), n) * count


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name; reject those that are at most the false-alarm rate of the run.

    If some of the hypotheses hold, the chance that any of them is rejected is at most this rate,
    whatever the tests have to do with each other (Holm, "A simple sequentially rejective multiple
    test procedure", 1979). Tests of one run share their answers, so nothing less general is valid.
    """
    if wrong := [name for name, p in p_values.items() if not 0 <= p <= 1]:
        raise ValueError(f"p-values must be from 0 to 1; these are not: {', '.join(wrong)}")
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values, key=p_values.__getitem__)
    for left, name in zip(range(len(ordered), 0, -1), ordered, strict=True):
        largest = max(largest, min(1.0, left * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}
