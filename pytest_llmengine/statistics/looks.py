"""Repeated looks at one server, with one false-alarm rate for all of them together.

The p-values of nightly checks against one baseline depend on each other: a baseline that was
recorded on an unusual day makes every one of them small. So they must not be multiplied. Instead
each look has a score, its distance from a part of the baseline that is used for nothing else. If
nothing has changed, the scores of the other baseline sessions and of all looks are exchangeable,
so the rank of each new score among all earlier ones is uniform and independent of the earlier ranks
(Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005).

A capital of 1 is bet on high ranks. Without a change its expected value stays at 1, so the chance
that it ever reaches ``1 / alpha`` is at most alpha, after any number of looks (Ville's inequality).
Bets lose while nothing changes. So a part of the capital does not bet, and at each look a small
share of it begins to and another share stops. A change in the third year is then found as well
("simple jumper": Vovk and others, "Retrain or not retrain", 2021).

After few sessions, even the highest ranks are not rare, and a server that always gives the same
answers has equal scores after a change, which share a rank. So there are bets on each of the first
looks: that the server has changed there, and that all looks since then rank before all others.

Equal scores count against a change: a look shares the last rank of its equals. This can only lower
the capital.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pytest_llmengine.statistics.groups import furthest_group
from pytest_llmengine.statistics.two_sample import mean_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Unit = TypeVar("Unit")

TOLERANCE = 2.0
"""How much further from the baseline a look may be than the baseline's own furthest session."""

TOPS = (0.02, 0.1, 0.3)
"""The bets: each wins if a score is among this share of the highest."""
KEPT = 0.2
"""The share of each bet that is not lost if it does not win."""
AWAKE = 0.25
"""The share of the capital that bets on the top from the first look."""
EARLY = 0.25
"""The share of the capital that bets on a change at one of the first looks."""
STARTS = 20
"""How many of the first looks are those."""
LOST = 1e-9
"""A bet on a first look that has less capital than this is lost."""
JUMP = 0.001
"""The share that begins to bet, and the share that stops, at each look."""


class Reference(Generic[Unit]):
    """The part of a baseline that looks are compared with, as sessions of rounds.

    ``tolerance`` is the energy distance up to which a session counts as the same. If it is not
    given, it is `TOLERANCE` times the largest distance of one of these sessions from the others.
    It has a purpose if sessions are not exchangeable, since the load of a server drifts from
    night to night: as long as the baseline was recorded under loads as different as those to come,
    all scores are 0, and equal scores are no evidence.
    """

    def __init__(
        self,
        sessions: Sequence[Sequence[Unit]],
        distance: Callable[[Unit, Unit], float],
        tolerance: float | None = None,
    ) -> None:
        if len(sessions) < 2:  # noqa: PLR2004 - else there is nothing to compare
            raise ValueError("a reference needs two sessions at least")
        self.distance = distance
        self.rounds = [unit for session in sessions for unit in session]
        self._within = mean_distance(self.rounds, self.rounds, distance)
        if tolerance is None:
            tolerance = TOLERANCE * furthest_group(sessions, distance)
        self.tolerance = tolerance

    def score(self, session: Sequence[Unit]) -> float:
        """How much further than the tolerance a session is from the reference."""
        within = self._within + mean_distance(session, session, self.distance)
        far = 2 * mean_distance(self.rounds, session, self.distance) - within
        return max(0.0, far - self.tolerance)


@dataclass(frozen=True, slots=True)
class LookHistory:
    """All looks at one server until now, as plain values.

    ``scores`` are those of the baseline sessions and of the looks, the lowest first. ``asleep`` is
    the capital that does not bet, ``awake`` the capital of each bet on the top, ``early`` that of
    each bet on one of the first looks until all are lost, and ``highest`` the highest total that
    was ever reached.
    """

    scores: tuple[float, ...]
    looks: int = 0
    asleep: float = 1 - AWAKE - EARLY
    awake: tuple[float, ...] = (AWAKE / len(TOPS),) * len(TOPS)
    early: tuple[float, ...] = (EARLY / STARTS,) * STARTS
    highest: float = 1.0

    @classmethod
    def of(cls, calibration: Sequence[float]) -> Self:
        """The history before the first look, from the scores of baseline sessions."""
        return cls(tuple(sorted(calibration)))

    @property
    def capital(self) -> float:
        """The evidence against the hypothesis that nothing has changed; 1 is none."""
        return self.asleep + sum(self.awake) + sum(self.early)

    def rank(self, score: float) -> int:
        """The rank of a score among all until now, 1 for the highest; the last of equals."""
        return 1 + len(self.scores) - bisect_left(self.scores, score)

    def look(self, score: float) -> Self:
        """The history with one more look."""
        if not isfinite(score):
            raise ValueError(f"the score of a look is {score}; it must be a finite number")
        lower = bisect_left(self.scores, score)
        scores = (*self.scores[:lower], score, *self.scores[lower:])
        rank, units, looks = self.rank(score), len(scores), self.looks + 1
        woken, slept = JUMP * self.asleep / len(TOPS), JUMP * sum(self.awake)
        awake = tuple(
            ((1 - JUMP) * capital + woken) * payoff(rank, units, top)
            for capital, top in zip(self.awake, TOPS, strict=True)
        )
        early = tuple(
            _early(capital, looks - n, rank, units) for n, capital in enumerate(self.early)
        )
        early = early if any(early) else ()
        asleep = (1 - JUMP) * self.asleep + slept
        highest = max(self.highest, asleep + sum(awake) + sum(early))
        return type(self)(scores, looks, asleep, awake, early, highest)

    def is_changed(self, alpha: float) -> bool:
        """Whether the capital ever reached the limit for this false-alarm rate."""
        return self.highest >= 1 / alpha

    def to_dict(self) -> dict[str, Any]:
        """The history as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The history that `to_dict` wrote."""
        known = dict(row)
        lists = {name: tuple(row[name]) for name in ("scores", "awake", "early")}
        return cls(**{**known, **lists})


def _early(capital: float, changed: int, rank: int, units: int) -> float:
    """The capital of a bet on a first look, if so many looks have changed until now."""
    if changed <= 0:
        return capital
    return 0.0 if capital < LOST else capital * payoff(rank, units, changed / units)


def payoff(rank: int, units: int, top: float) -> float:
    """What one unit of capital becomes if a score has this rank among so many.

    The mean over all ranks is 1. A rank at the border wins in part, as much of the share as it
    covers.
    """
    covered = min(rank / units, top) - min((rank - 1) / units, top)
    return KEPT + (1 - KEPT) * units * covered / top
