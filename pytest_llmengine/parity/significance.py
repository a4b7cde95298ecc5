"""The test of each kind of evidence, with one false-alarm rate for all of them together.

The hypothesis is that the candidate's answers have the distribution of the baseline's. Then the
passes over a group of prompts may change places, since all were sent in the same way (see
`schedule`), and the share of arrangements in which the two sides are as far apart as observed is a
p-value. Groups are independent, so their arrangements are combined.

If the passes of the baseline differ from each other as a whole, groups are not independent. Then
whole passes change places, which needs many of them.

A group that differs each time may be sent to the candidate again. Whether that happens depends on
the answers, so its p-value is multiplied by the number of groups, as if all had been sent again.

If some of the prompts may differ, as many of them as have the largest part of the distance between
the two sides are left out of the observed distance, and not of those of other arrangements. This
holds the false-alarm rate whichever prompts differ. If they were left out of both, it would not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import comb, fsum
from typing import TYPE_CHECKING

from pytest_llmengine.statistics import DRAWS, Stratum, holm, permutation_test
from pytest_llmengine.statistics.dependence import independence_test

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.parity.evidence import ParityEvidence

ALPHA = 0.01
"""The false-alarm rate of a run, unless the user gives another one."""

DEPENDENT = 0.01
"""Passes of the baseline with a smaller p-value than this differ from each other as a whole."""

_ROUNDING = 1e-9


class Unit(StrEnum):
    """What may change places between the two sides if they are the same."""

    GROUP = "group"
    WHOLE_PASS = "pass"  # noqa: S105  # nosec B105 - not a password


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """How rows are tested: the false-alarm rate of the run, and what may be sent again.

    ``may_differ`` is how many prompts may differ. ``repeats`` says whether single groups may be
    sent to the candidate again, and ``unit`` what changes places. ``planned`` are the passes of the
    baseline and of the candidate that are made if the first answers differ; None if there are no
    more than those at hand. ``draws`` is how many random arrangements are compared if there are too
    many to compare all.
    """

    alpha: float = ALPHA
    may_differ: int = 0
    repeats: bool = False
    unit: Unit = Unit.GROUP
    planned: tuple[int, int] | None = None
    draws: int = DRAWS


def adjusted_p_values(
    rows: Mapping[str, ParityEvidence], p_values: Mapping[str, float]
) -> dict[str, float]:
    """The p-values after the correction for all rows.

    A row in which nothing differs, on either side, cannot be rejected by any arrangement. So it
    does not count in the correction.
    """
    varied = {name: p_values[name] for name, row in rows.items() if is_varied(row)}
    return {**dict.fromkeys(rows, 1.0), **holm(varied)}


def is_varied(row: ParityEvidence) -> bool:
    """Whether any two answers to a prompt differ."""
    return any(any(map(any, rows)) for rows in row.distances.values())


def p_value(row: ParityEvidence, rule: DecisionRule) -> float:
    """The p-value of a row before the correction for the other rows."""
    p = p_value_of_all(row, rule)
    if not rule.repeats or rule.unit is Unit.WHOLE_PASS:
        return p
    again = [_p_value_of(row, rule, group, stratum) for group, stratum in row.repeated().items()]
    return min(1.0, 2 * min(p, len(row.groups) * min(again, default=1.0)))


def p_value_of_all(row: ParityEvidence, rule: DecisionRule, seed: int = 0) -> float:
    """The p-value of the test of all groups."""
    strata = _units(list(row.strata().values()), rule.unit)
    allowed = _allowed(row, rule, row.distances, row.sizes.candidate)
    return permutation_test(strata, draws=rule.draws, seed=seed, allowed=allowed).p_value


def _p_value_of(row: ParityEvidence, rule: DecisionRule, group: int, stratum: Stratum) -> float:
    """The p-value of a group that the candidate was sent often, over all arrangements.

    The few passes of the baseline are chosen from all, which is the same as to choose the others.
    """
    few, many = stratum.baseline, stratum.candidate
    order = [*range(few, few + many), *range(few)]
    mirrored = Stratum([[stratum.distances[i][j] for j in order] for i in order], many)
    allowed = _allowed(row, rule, row.groups[group], many)
    return permutation_test([mirrored], draws=stratum.arrangements, allowed=allowed).p_value


def _allowed(
    row: ParityEvidence, rule: DecisionRule, places: Iterable[int], candidate: int
) -> float:
    """The largest part of the statistic that prompts can have, if as many as may differ do."""
    if not rule.may_differ:
        return 0.0
    energies = [row.stratum([place], candidate).energy for place in places]
    return fsum(max(0.0, energy) for energy in sorted(energies, reverse=True)[: rule.may_differ])


def _units(strata: Sequence[Stratum], unit: Unit) -> Sequence[Stratum]:
    return [merged(strata)] if unit is Unit.WHOLE_PASS else strata


def merged(strata: Sequence[Stratum]) -> Stratum:
    """One stratum whose units are whole passes over all groups."""
    size = strata[0].units
    sums = [[sum(one.distances[i][j] for one in strata) for j in range(size)] for i in range(size)]
    return Stratum(sums, strata[0].baseline)


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


def differs_each_time(row: ParityEvidence, rule: DecisionRule) -> set[int]:
    """The groups in which no arrangement has the sides as far apart as the observed one."""
    found = set()
    for group, one in row.strata().items():
        allowed = _allowed(row, rule, row.groups[group], one.candidate)
        p = permutation_test([one], allowed=allowed).p_value
        if any(map(any, one.distances)) and p <= 1 / one.arrangements + _ROUNDING:
            found.add(group)
    return found


def repeats_needed(rows: Sequence[ParityEvidence], alpha: float, most: int) -> int | None:
    """How often a group must be sent again so that one that always differs is found.

    None if more than ``most`` times would not be enough.
    """
    baseline, sent = rows[0].sizes.baseline, rows[0].sizes.sent
    needed = 2 * len(rows[0].groups) * len(rows) / alpha
    return next(
        (n for n in range(1, most + 1) if comb(baseline + sent + n, baseline) >= needed), None
    )
