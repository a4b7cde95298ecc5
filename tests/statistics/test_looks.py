"""Repeated looks: one false-alarm rate for all of them, and changes that are found soon."""

from __future__ import annotations

import json
import random
from itertools import permutations

import pytest

from pytest_llmengine.statistics import LookHistory, Reference, energy_distance
from pytest_llmengine.statistics.looks import TOPS, payoff

ALPHA = 0.01
CALIBRATION = 20


def nights(history: LookHistory, scores: list[float]) -> LookHistory:
    """The history after these looks."""
    for score in scores:
        history = history.look(score)
    return history


def noise(chance: random.Random, size: int) -> list[float]:
    """Scores with heavy tails."""
    return [chance.paretovariate(1.0) for _ in range(size)]


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("units", [1, 2, 21, 400])
def test_a_bet_is_fair(top: float, units: int) -> None:
    """Over all ranks it neither wins nor loses, and a higher rank wins more."""
    payoffs = [payoff(rank, units, top) for rank in range(1, units + 1)]
    assert sum(payoffs) / units == pytest.approx(1.0)
    assert payoffs == pytest.approx(sorted(payoffs, reverse=True))


def test_series_without_a_change_raise_few_alarms() -> None:
    """Of 100 series of 100 looks, at most alpha ever alarm, and at 20% some do."""
    chance = random.Random(7)
    alarms = {0.2: 0, ALPHA: 0}
    for _ in range(100):
        history = nights(LookHistory.of(noise(chance, CALIBRATION)), noise(chance, 100))
        for alpha in alarms:
            alarms[alpha] += history.is_changed(alpha)
    assert 1 <= alarms[0.2] <= 32
    assert alarms[ALPHA] <= 5


def test_a_short_and_low_baseline_raises_no_alarm() -> None:
    """Both sessions of the baseline were as low as the lowest look."""
    chance = random.Random(8)
    scores = noise(chance, 200)
    history = nights(LookHistory.of([min(scores)] * 2), scores)
    assert not history.is_changed(ALPHA)


@pytest.mark.parametrize("year", [0, 3])
def test_a_change_is_found_within_two_weeks(year: int) -> None:
    """Also after years without one; the alarm stays when the server changes back."""
    chance = random.Random(9)
    history = LookHistory.of(noise(chance, CALIBRATION))
    history = nights(history, noise(chance, 365 * year))
    assert not history.is_changed(ALPHA)
    history = nights(history, [1e6 + score for score in noise(chance, 14)])
    assert history.is_changed(ALPHA)
    assert nights(history, noise(chance, 30)).is_changed(ALPHA)


SESSIONS = [[0.0, 0.1], [0.2, 0.3], [0.1, 0.4]]


def distance(one: float, other: float) -> float:
    """The distance between two rounds of one number."""
    return abs(one - other)


def test_the_score_of_a_session() -> None:
    """Its energy distance from the reference, beyond the tolerance."""
    rounds = [value for session in SESSIONS for value in session]
    session = [1.0, 1.2]
    exact = Reference(SESSIONS, distance, tolerance=0.0)
    assert exact.score(session) == pytest.approx(energy_distance(rounds, session, distance))
    assert exact.score(rounds) == pytest.approx(0.0)
    assert Reference(SESSIONS, distance, tolerance=0.5).score(session) == pytest.approx(
        exact.score(session) - 0.5
    )


def test_the_own_sessions_of_a_reference_are_within_its_tolerance() -> None:
    """By default none of them has a score, and another server has one."""
    reference = Reference(SESSIONS, distance)
    far = [energy_distance([0.2, 0.3], [0.0, 0.1, 0.1, 0.4], distance)]
    far += [energy_distance([0.0, 0.1], [0.2, 0.3, 0.1, 0.4], distance)]
    far += [energy_distance([0.1, 0.4], [0.0, 0.1, 0.2, 0.3], distance)]
    assert reference.tolerance == pytest.approx(2 * max(far))
    assert [reference.score(session) for session in SESSIONS] == [0.0] * 3
    assert reference.score([2.0, 2.1]) > 0


def test_a_reference_has_two_sessions() -> None:
    """One session does not show how much a server differs from itself."""
    with pytest.raises(ValueError, match="needs two sessions at least"):
        Reference(SESSIONS[:1], distance)


def test_equal_scores_are_no_evidence() -> None:
    """A server that never differs from its baseline loses the bets."""
    history = nights(LookHistory.of([0.0] * CALIBRATION), [0.0] * 50)
    assert history.capital < 1
    assert history.highest == 1.0
    assert history.rank(0.0) == CALIBRATION + 51


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_is_a_number(score: float) -> None:
    """Anything else would be the highest score, or the lowest."""
    with pytest.raises(ValueError, match=f"the score of a look is {score}; it must be"):
        LookHistory.of([1.0]).look(score)


def test_a_history_is_kept_as_json() -> None:
    """A journal can hold it, and the next look goes on from there."""
    history = nights(LookHistory.of([1.0, 3.0, 2.0]), [2.5, 9.0])
    read = LookHistory.from_dict(json.loads(json.dumps(history.to_dict())))
    assert read == history
    assert read.look(10.0) == history.look(10.0)


def test_equal_scores_after_a_change_are_found_with_a_short_baseline() -> None:
    """A server that always gives the same answers changes at the first look: ten looks are enough.

    All changed looks share one rank, and ten sessions of a baseline make no rank rare.
    """
    history = nights(LookHistory.of([0.0] * 10), [1.0] * 10)
    assert history.is_changed(ALPHA)


def test_early_bets_are_fair() -> None:
    """Over all orders of few different scores, the mean capital stays at 1."""
    orders = list(permutations(range(6)))
    capitals = [nights(LookHistory.of(order[:3]), list(order[3:])).capital for order in orders]
    assert sum(capitals) / len(capitals) == pytest.approx(1.0)
