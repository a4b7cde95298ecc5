"""Repeated looks at one server, with one false-alarm rate for all of them together.

The p-values of nightly checks against one baseline depend on each other: a baseline that was
recorded on an unusual day makes every one of them small. So they must not be multiplied. Instead
each look has a score, its distance from a part of the baseline that is used for nothing else. If
nothing has changed, the scores of the other baseline sessions and of all looks are exchangeable,
so the rank of each new score among all earlier ones is uniform, and independent of the
earlier ranks (Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005).

A capital of 1 is bet on high ranks. Without a change its expected value stays at 1, so the chance
that it ever reaches ``1 / alpha`` is at most alpha, after any number of looks (Ville's inequality).
Most of the capital does not bet until scores rise, so that a change in the third year is found as
well ("simple jumper": Vovk and others, "Retrain or not retrain", 2021). A small share of it moves
back and forth at each look.

Equal scores count against a change: a look shares the last rank of its equals. This can only lower
the capital.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import exp, log
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POWERS = (0.05, 0.2, 0.5)
"""The bets, by how much they favour the highest rank; smaller powers do so more."""
AWAKE = 0.5
"""The share of the capital that bets from the first look."""
JUMP = 0.002
"""The share that begins to bet, and the share that stops, at each look."""


@dataclass(frozen=True, slots=True)
class LookHistory:
    """All looks at one server until now, as plain values.

    ``scores`` are those of the baseline sessions and then of the looks, in order. ``asleep`` is
    the capital that does not bet, ``awake`` the capital of each bet, and ``highest`` the
    highest total that was ever reached.
    """

    scores: tuple[float, ...]
    asleep: float = 1 - AWAKE
    awake: tuple[float, ...] = (AWAKE / len(POWERS),) * len(POWERS)
    highest: float = 1.0

    @classmethod
    def of(cls, calibration: Sequence[float]) -> Self:
        """The history before the first look, from the scores of baseline sessions."""
        return cls(tuple(calibration))

    @property
    def capital(self) -> float:
        """The evidence against the hypothesis that nothing has changed; 1 is none."""
        return self.asleep + sum(self.awake)

    def rank(self, score: float) -> int:
        """The rank of a score among all until now, 1 for the highest; the last of equals."""
        return 1 + sum(earlier >= score for earlier in self.scores)

    def look(self, score: float) -> Self:
        """The history with one more look."""
        rank, scores = self.rank(score), (*self.scores, score)
        woken, slept = JUMP * self.asleep / len(POWERS), JUMP * sum(self.awake)
        awake = tuple(
            ((1 - JUMP) * capital + woken) * payoff(rank, len(scores), power)
            for capital, power in zip(self.awake, POWERS, strict=True)
        )
        asleep = (1 - JUMP) * self.asleep + slept
        highest = max(self.highest, asleep + sum(awake))
        return type(self)(scores, asleep, awake, highest)

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
        return cls(**{**known, "scores": tuple(row["scores"]), "awake": tuple(row["awake"])})


def payoff(rank: int, units: int, power: float) -> float:
    """What one unit of capital becomes if a look has this rank among so many units.

    The mean over all ranks is 1. The payoff is the mean of ``power * p ** (power - 1)`` over the
    p-values that the rank stands for (Shafer and others, "Test martingales, Bayes factors and
    p-values", 2011).
    """
    below = exp(power * log((rank - 1) / units)) if rank > 1 else 0.0
    return units * (exp(power * log(rank / units)) - below)
