"""The smallest change of a row that its test finds, so that "equal" says what it excludes.

If all answers to a prompt are equal, and none of the prompts may differ, this is calculated. Else
candidates are simulated: the passes of both sides are put in a random order, so that they differ by
noise only, and some of the answers are changed.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from math import ceil, log
from typing import TYPE_CHECKING

from pytest_llmengine.parity.evidence import ParityEvidence, Sizes
from pytest_llmengine.parity.significance import Unit, is_varied, p_value_of_all
from pytest_llmengine.statistics import ROUNDING, first_found, smallest_rate

if TYPE_CHECKING:
    from pytest_llmengine.parity.evidence import Matrix
    from pytest_llmengine.parity.significance import DecisionRule

    Groups = tuple[tuple[int, ...], ...]
    """The places of the prompts of each group."""

_STEP = 1.25  # between two sizes of a change that are tried


def smallest_seen(row: ParityEvidence, rule: DecisionRule, alpha: float) -> float | None:
    """The smallest change of a row that is found with 95% power by the test of all groups.

    It is a share of the answers, which change at random, or nats per token for log-probabilities.
    """
    has_noise = any(any(map(any, one.distances)) for one in row.strata().values())
    passes = row.sizes.passes if has_noise else rule.planned or row.sizes.passes
    groups = _groups(row)
    if _lowest_p_value(groups, passes, rule) > alpha:
        return None
    if has_noise:
        least = _calculated(groups, passes, rule.unit, alpha) if row.is_share else ROUNDING
        return None if least is None else _simulated(row, rule, alpha, least)
    return _seen_without_noise(groups, passes, rule, alpha) if row.is_share else ROUNDING


def rate_of_all(row: ParityEvidence, rule: DecisionRule, family: int) -> float:
    """The false-alarm rate of the test of all groups of a row, in the worst case.

    It is that of the run divided by the rows that vary, of which this would be one if it changed;
    ``family`` is their number. It is shared with the test of groups that are repeated.
    """
    alpha = rule.alpha / max(1, family if is_varied(row) else family + 1)
    return alpha / 2 if rule.repeats else alpha


def is_blind(row: ParityEvidence, rule: DecisionRule) -> bool:
    """Whether the row could not be rejected even if every answer of the candidate were another."""
    if rule.repeats and row.repeated():
        return False
    return not row.of or _lowest_p_value(_groups(row), row.sizes.passes, rule) > rule.alpha


def _groups(row: ParityEvidence) -> Groups:
    return tuple(map(tuple, row.groups.values()))


# Most rows of a report have the same groups and no noise, so these need no second simulation.
@lru_cache(maxsize=64)
def _seen_without_noise(
    groups: Groups, passes: tuple[int, int], rule: DecisionRule, alpha: float
) -> float | None:
    """The smallest rate of changed answers that is found if all others are equal."""
    least = _calculated(groups, passes, rule.unit, alpha)
    if least is None or not rule.may_differ:
        return least
    return _simulated(_equal_answers(groups, passes), rule, alpha, least)


@lru_cache(maxsize=64)
def _lowest_p_value(groups: Groups, passes: tuple[int, int], rule: DecisionRule) -> float:
    """The p-value if all answers of the baseline are equal, and all of the candidate are others."""
    chance = random.Random(0)  # noqa: S311  # nosec B311 - repeatable on purpose
    row = _with_change(_equal_answers(groups, passes), 1.0, chance, rule.unit)
    return p_value_of_all(row, rule)


def _calculated(groups: Groups, passes: tuple[int, int], unit: Unit, alpha: float) -> float | None:
    """The smallest rate that is found if all other answers are equal, and no prompt may differ.

    A changed answer makes its group differ in its pass. This is one of the candidate's passes in as
    many of the arrangements as it has of all passes.
    """
    baseline, candidate = passes
    if candidate >= baseline:
        return None
    fewest, p = 0, 1.0
    while p > alpha:
        fewest, p = fewest + 1, p * candidate / (baseline + candidate)
    units = 1 if unit is Unit.WHOLE_PASS else len(groups)
    rate = smallest_rate(units * candidate, fewest)
    return None if rate is None else 1 - (1 - rate) ** (units / sum(map(len, groups)))


def _simulated(row: ParityEvidence, rule: DecisionRule, alpha: float, least: float) -> float | None:
    """The smallest change, of this size at least, that is found in simulated candidates."""
    tested = replace(rule, draws=ceil(2 / alpha))

    def is_found(change: float, chance: random.Random) -> bool:
        changed = _with_change(row, change, chance, rule.unit)
        return p_value_of_all(changed, tested, seed=chance.randrange(2**32)) <= alpha

    steps = ceil(log(1 / least) / log(_STEP))
    return first_found(is_found, [*(least * _STEP**n for n in range(steps)), 1.0])


def _equal_answers(groups: Groups, passes: tuple[int, int]) -> ParityEvidence:
    """A row in which all answers to a prompt are equal."""
    baseline, candidate = passes
    none = [[0.0] * (baseline + candidate)] * (baseline + candidate)
    places = [place for group in groups for place in group]
    return ParityEvidence(
        name="",
        distances=dict.fromkeys(places, none),
        own=dict.fromkeys(places, baseline),
        groups=dict(enumerate(groups)),
        sizes=Sizes(baseline, candidate, candidate),
    )


def _with_change(
    row: ParityEvidence, change: float, chance: random.Random, unit: Unit
) -> ParityEvidence:
    """The row of a candidate that is the baseline but for noise, with a change of this size."""
    baseline, candidate = row.sizes.baseline, row.sizes.candidate
    order = chance.sample(range(baseline + candidate), baseline + candidate)
    distances: dict[int, Matrix] = {}
    for places in row.groups.values():
        if unit is Unit.GROUP:
            chance.shuffle(order)
        for place in places:
            skipped = row.own[place] - baseline
            kept = [n if n < baseline else n + skipped for n in order]
            known = [[row.distances[place][i][j] for j in kept] for i in kept]
            distances[place] = (
                _with_others(known, baseline, change, chance)
                if row.is_share
                else _with_shift(known, baseline, change)
            )
    own = dict.fromkeys(row.own, baseline)
    return replace(row, distances=distances, own=own, sizes=Sizes(baseline, candidate, candidate))


def _with_others(
    rows: list[list[float]], baseline: int, rate: float, chance: random.Random
) -> Matrix:
    """The distances of answers to a prompt if the candidate's are others at this rate."""
    for i in range(baseline, len(rows)):
        if chance.random() < rate:
            for j in range(len(rows)):
                rows[i][j] = rows[j][i] = float(i != j)
    return rows


def _with_shift(rows: list[list[float]], baseline: int, shift: float) -> Matrix:
    """The same if the candidate's log-probabilities have moved by so many nats."""
    for i, j in combinations(range(len(rows)), 2):
        if i < baseline <= j:
            rows[i][j] = rows[j][i] = max(rows[i][j], shift)
    return rows
