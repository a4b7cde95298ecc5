"""The test of each kind of evidence, with one false-alarm rate for all of them together.

The hypothesis is that the candidate's answers have the distribution of the baseline's. Then the
passes over a group of prompts may change places, since all were sent in the same way (see
`schedule`), and the share of arrangements in which the two sides are as far apart as observed is a
p-value. Groups are independent, so their arrangements are combined.

If the passes of the baseline differ from each other as a whole, groups are not independent. Then
whole passes change places, which needs many of them.

A group that differs each time may be sent to the candidate again. Whether that happens depends on
the answers, so its p-value is multiplied by the number of groups, as if all had been sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product
from math import ceil, comb, log, prod
from typing import TYPE_CHECKING

from pytest_llmengine.statistics import (
    DRAWS,
    ROUNDING,
    Stratum,
    first_found,
    holm,
    permutation_test,
    smallest_rate,
)
from pytest_llmengine.statistics.dependence import independence_test

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from pytest_llmengine.parity.evidence import ParityEvidence

ALPHA = 0.01
"""The false-alarm rate of a run, unless the user gives another one."""

DEPENDENT = 0.01
"""Passes of the baseline with a smaller p-value than this differ from each other as a whole."""

_TWO = 2  # units mirror each other: the two sides are as far apart if they change places
_ROUNDING = 1e-9
_STEP = 1.25  # between two sizes of a change that are tried


class Unit(StrEnum):
    """What may change places between the two sides if they are the same."""

    GROUP = "group"
    WHOLE_PASS = "pass"  # noqa: S105  # nosec B105 - not a password


@dataclass(frozen=True, slots=True)
class RowTest:
    """The outcome for one kind of evidence.

    ``adjusted`` is the p-value after the correction for all rows; the row is ``rejected`` if it is
    at most the false-alarm rate. ``would_see`` is the smallest change that is found in 95% of all
    runs of this size: a share of the answers, or nats per token for log-probabilities. It is None
    if no change would be found, or if the row is rejected.
    """

    p_value: float
    adjusted: float
    rejected: bool
    would_see: float | None = None


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """How rows are tested: the false-alarm rate of the run, and what may be sent again.

    ``repeats`` says whether single groups may be sent to the candidate again, and ``unit`` what
    changes places. ``planned`` are the passes of the baseline and of the candidate that are made if
    the first answers differ; None if there are no more than those at hand. ``draws`` is how many
    random arrangements are compared if there are too many to compare all.
    """

    alpha: float = ALPHA
    repeats: bool = False
    unit: Unit = Unit.GROUP
    planned: tuple[int, int] | None = None
    draws: int = DRAWS


def tests_of(rows: Sequence[ParityEvidence], rule: DecisionRule) -> dict[str, RowTest]:
    """The test of each row that was measured, by its name."""
    measured = {row.name: row for row in rows if row.of}
    p_values = {name: p_value(row, rule) for name, row in measured.items()}
    adjusted = adjusted_p_values(measured, p_values)
    family = sum(map(is_varied, measured.values()))
    return {
        name: RowTest(p_values[name], adjusted[name], rejected=True)
        if adjusted[name] <= rule.alpha
        else RowTest(
            p_values[name],
            adjusted[name],
            rejected=False,
            would_see=smallest_seen(row, rule, _alone(row, rule, family)),
        )
        for name, row in measured.items()
    }


def adjusted_p_values(
    rows: Mapping[str, ParityEvidence], p_values: Mapping[str, float]
) -> dict[str, float]:
    """The p-values after the correction for all rows.

    A row in which nothing differs, on either side, cannot be rejected by any arrangement. So it
    does not count in the correction.
    """
    varied = {name: p_values[name] for name, row in rows.items() if is_varied(row)}
    return {**dict.fromkeys(rows, 1.0), **holm(varied)}


def _alone(row: ParityEvidence, rule: DecisionRule, family: int) -> float:
    """The rate of a row's test of all groups, in the worst case.

    The rate is that of the run divided by the rows that vary, of which this would be one if it
    changed. It is shared with the test of groups that are repeated.
    """
    alpha = rule.alpha / max(1, family if is_varied(row) else family + 1)
    return alpha / 2 if rule.repeats else alpha


def is_varied(row: ParityEvidence) -> bool:
    """Whether any two answers to a prompt differ."""
    return any(any(map(any, rows)) for rows in row.distances.values())


def p_value(row: ParityEvidence, rule: DecisionRule) -> float:
    """The p-value of a row before the correction for the other rows."""
    strata = list(row.strata().values())
    p = permutation_test(_units(strata, rule.unit), draws=rule.draws).p_value
    if not rule.repeats or rule.unit is Unit.WHOLE_PASS:
        return p
    again = map(_exact, row.repeated().values())
    return min(1.0, 2 * min(p, len(strata) * min(again, default=1.0)))


def _exact(stratum: Stratum) -> float:
    """The p-value of a group that the candidate was sent often, over all arrangements.

    The few passes of the baseline are chosen from all, which is the same as to choose the others.
    """
    few, many = stratum.baseline, stratum.candidate
    order = [*range(few, few + many), *range(few)]
    mirrored = Stratum(_ordered(stratum.distances, order), many)
    return permutation_test([mirrored], draws=stratum.arrangements).p_value


def _units(strata: Sequence[Stratum], unit: Unit) -> Sequence[Stratum]:
    return [merged(strata)] if unit is Unit.WHOLE_PASS else strata


def merged(strata: Sequence[Stratum]) -> Stratum:
    """One stratum whose units are whole passes over all groups."""
    size = strata[0].units
    sums = [[sum(one.distances[i][j] for one in strata) for j in range(size)] for i in range(size)]
    return Stratum(sums, strata[0].baseline)


def is_blind(row: ParityEvidence, rule: DecisionRule) -> bool:
    """Whether the row could not be rejected even if the candidate differed in every group."""
    units = _units(list(row.strata().values()), rule.unit) if row.of else ()
    lowest = prod(1.0 if one.units == _TWO else 1 / one.arrangements for one in units)
    return lowest > rule.alpha and not (rule.repeats and row.repeated())


def tolerated(row: ParityEvidence, margin: float) -> ParityEvidence:
    """The row without as many prompts as may differ: those in which the candidate is furthest.

    If the others differ more than by chance, so do more prompts than the margin allows.
    """
    furthest = sorted(row.distances, key=lambda place: (row.within(place) or 0) - row.across(place))
    return row.without(furthest[: int(margin * row.of + _ROUNDING)])


def dependence(rows: Sequence[ParityEvidence]) -> float:
    """The p-value of the hypothesis that the baseline's answers to its groups are independent.

    Each kind of evidence counts with the share of its distances, so that all have the same weight.
    """
    passes = range(rows[0].sizes.baseline)
    sums = {group: [[0.0] * len(passes) for _ in passes] for row in rows for group in row.groups}
    for row in rows:
        strata = row.strata()
        total = sum(one.distances[i][j] for one in strata.values() for i in passes for j in passes)
        for group, one in strata.items() if total else ():
            for i, j in product(passes, passes):
                sums[group][i][j] += one.distances[i][j] / total
    return independence_test(list(sums.values()))


def _ordered(
    distances: Sequence[Sequence[float]], order: Sequence[int]
) -> Sequence[Sequence[float]]:
    return [[distances[i][j] for j in order] for i in order]


def differs_each_time(row: ParityEvidence) -> set[int]:
    """The groups in which no arrangement has the sides as far apart as the observed one."""
    return {
        group
        for group, one in row.strata().items()
        if any(map(any, one.distances))
        and permutation_test([one]).p_value <= 1 / one.arrangements + _ROUNDING
    }


def repeats_needed(rows: Sequence[ParityEvidence], alpha: float, most: int) -> int | None:
    """How often a group must be sent again so that one that always differs is found.

    None if more than ``most`` times would not be enough.
    """
    baseline, sent = rows[0].sizes.baseline, rows[0].sizes.sent
    needed = 2 * len(rows[0].groups) * len(rows) / alpha
    return next(
        (n for n in range(1, most + 1) if comb(baseline + sent + n, baseline) >= needed), None
    )


def smallest_seen(row: ParityEvidence, rule: DecisionRule, alpha: float) -> float | None:
    """The smallest change of a row that is found with 95% power by the test of all groups."""
    strata = _units(list(row.strata().values()), rule.unit)
    sizes = [len(places) for places in row.groups.values()]
    if rule.unit is Unit.WHOLE_PASS:
        sizes = [sum(sizes)]
    passes = (row.sizes.baseline, row.sizes.candidate)
    has_noise = any(any(map(any, one.distances)) for one in strata)
    if rule.planned is not None and not has_noise:
        passes = rule.planned
    least = _without_noise(sizes, passes, alpha) if row.is_share else ROUNDING
    if comb(sum(passes), passes[0]) ** len(strata) < 1 / alpha:
        return None
    if least is None or not has_noise:
        return least
    draws = ceil(2 / alpha)

    def is_found(change: float, chance: random.Random) -> bool:
        changed = [
            _with_change(one, size, change, chance, is_share=row.is_share)
            for one, size in zip(strata, sizes, strict=True)
        ]
        seed = chance.randrange(2**32)
        return permutation_test(changed, draws=draws, seed=seed).p_value <= alpha

    steps = ceil(log(1 / least) / log(_STEP))
    return first_found(is_found, [*(least * _STEP**n for n in range(steps)), 1.0])


def _without_noise(sizes: Sequence[int], passes: tuple[int, int], alpha: float) -> float | None:
    """The smallest rate of changed answers that is found if all others are equal.

    A changed answer makes its group differ in its pass. This is one of the candidate's passes in as
    many of the arrangements as it has of all passes.
    """
    baseline, candidate = passes
    if candidate >= baseline:
        return None
    fewest, p = 0, 1.0
    while p > alpha:
        fewest, p = fewest + 1, p * candidate / (baseline + candidate)
    rate = smallest_rate(len(sizes) * candidate, fewest)
    return None if rate is None else 1 - (1 - rate) ** (len(sizes) / sum(sizes))


def _with_change(
    stratum: Stratum, size: int, change: float, chance: random.Random, *, is_share: bool
) -> Stratum:
    """A stratum of answers that are equal but for the noise, with a change of the candidate's."""
    order = list(range(stratum.units))
    chance.shuffle(order)
    rows = [list(row) for row in _ordered(stratum.distances, order)]
    candidate = range(stratum.baseline, stratum.units)
    counts = {unit: sum(chance.random() < change for _ in range(size)) for unit in candidate}
    for i, j in combinations(range(stratum.units), 2):
        if is_share:
            same = prod(1 - counts.get(n, 0) / size for n in (i, j))
            rows[i][j] = size - (size - rows[i][j]) * same
        elif i < stratum.baseline <= j:
            rows[i][j] = max(rows[i][j], size * change)
        rows[j][i] = rows[i][j]
    return Stratum(rows, stratum.baseline)
