"""Kinds of evidence about a model: what is read from an answer, and how far two rounds differ.

A kind of evidence is one row of a table. All distances are numbers of prompts: a value that is
another counts as 1, and a log-probability of the first token counts as at most 1 on average over
the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.statistics import (
    furthest_group,
    furthest_third,
    logprob_distance,
    permutation_test,
    stratum_of,
    value_distance,
)
from pytest_llmengine.statistics.two_sample import DRAWS, mean_distance

if TYPE_CHECKING:
    from pytest_llmengine.drift.answers import DriftAnswer, DriftSession
    from pytest_llmengine.drift.baseline import Baseline

Features = Sequence[Any]
"""What one round shows of one kind of evidence: one value per prompt."""

Unit = Sequence[Features]
"""What may change places: one round, or the rounds of one session."""


FURTHER = 1.5
"""How much further from a baseline another server must be than the baseline's own answers vary.

By simulation, this keeps the false-alarm rate at 1% if sessions differ by up to half the noise of
a round; larger differences are found by the test of the baseline.
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One kind of evidence.

    ``kind`` says which rounds it is about. ``of_answer`` reads its value from an answer; None means
    that the server does not show it. ``if_missing`` says why a server that has not changed may not
    show it although the baseline does; it is "" if there is no reason.
    """

    name: str
    of_answer: Callable[[DriftAnswer], Any]
    distance: Callable[[Features, Features], float] = value_distance
    kind: RoundKind = RoundKind.FIRST
    if_missing: str = ""

    @property
    def is_numeric(self) -> bool:
        """Whether values may differ by more or less, and not only be equal or not."""
        return self.distance is not value_distance

    def features(self, session: DriftSession) -> list[Features]:
        """The values of each round of a session."""
        return [[*map(self.of_answer, one.answers)] for one in session.of_kind(self.kind)]

    def is_shown(self, sessions: Sequence[DriftSession]) -> bool:
        """Whether any answer of these sessions shows it."""
        return any(value is not None for s in sessions for one in self.features(s) for value in one)

    def units(self, sessions: Sequence[DriftSession], unit: DriftUnit) -> list[Unit]:
        """The units of these sessions, each as a list of rounds."""
        rounds: list[Unit] = [self.features(session) for session in sessions]
        if unit is DriftUnit.SESSION:
            return rounds
        return [[one] for session in rounds for one in session]

    def by_session(self, sessions: Sequence[DriftSession]) -> list[list[Features]]:
        """The rounds of each session that has any."""
        return [rounds for session in sessions if (rounds := self.features(session))]

    def by_load(self, sessions: Sequence[DriftSession]) -> list[list[Features]]:
        """The rounds of all sessions by the number of requests in flight, the fewest first."""
        groups: dict[int, list[Features]] = {}
        for session in sessions:
            for one, features in zip(
                session.of_kind(self.kind), self.features(session), strict=True
            ):
                groups.setdefault(one.load, []).append(features)
        return [groups[load] for load in sorted(groups)]

    def tolerance(self, baseline: Baseline) -> float:
        """The energy distance up to which a candidate counts as the same.

        It is at least the `load_tolerance`. If rounds are compared, it is also at least `FURTHER`
        times the distance of any session of the baseline from the others. Else small differences
        between sessions, which the test of the baseline did not find, would raise false alarms.
        """
        given, sessions = baseline.tolerance or 0.0, baseline.sessions
        if self.kind is RoundKind.SCORED:  # a reference is one process at one time
            return given
        known = max(given, self.load_tolerance(sessions))
        if baseline.unit is DriftUnit.SESSION:
            return known
        return max(known, FURTHER * furthest_group(self.by_session(sessions), self.distance))

    def load_tolerance(self, sessions: Sequence[DriftSession]) -> float:
        """How far rounds with more requests in flight are from those with the fewest.

        What is computed in one batch depends on the speed of both machines and on other users. If
        answers depend on that, a server that has not changed may give the same answers in other
        shares. So only the third of the rounds that is furthest away counts, which surely were
        computed in batches. By simulation, this keeps the false-alarm rate if half of the rounds
        of the baseline were.
        """
        return furthest_third(self.by_load(sessions), self.distance)

    def test(
        self, ours: Sequence[Unit], theirs: Sequence[Unit], draws: int = DRAWS
    ) -> tuple[float, float | None]:
        """The p-value of the hypothesis that nothing has changed, and the energy distance.

        The distance is None if all units are equal.
        """
        stratum = stratum_of(ours, theirs, self.unit_distance)
        if not any(map(any, stratum.distances)):
            return 1.0, None
        result = permutation_test([stratum], draws=draws)
        return result.p_value, result.statistic * stratum.units / (len(ours) * len(theirs))

    def unit_distance(self, one: Unit, other: Unit) -> float:
        """The mean distance between the rounds of two units."""
        return mean_distance(one, other, self.distance)


def _usage(answer: DriftAnswer) -> tuple[int | None, int | None] | None:
    usage = answer.prompt_tokens, answer.completion_tokens
    return None if usage == (None, None) else usage


def _logprobs(one: Features, other: Features) -> float:
    return logprob_distance([top or {} for top in one], [top or {} for top in other])


def _margin(answer: DriftAnswer) -> float | None:
    return None if answer.score is None else answer.score.margin


def _surprise(answer: DriftAnswer) -> float | None:
    return None if answer.score is None else answer.score.surprise


def _tokens(answer: DriftAnswer) -> int | None:
    return None if answer.score is None else answer.score.tokens


def _total_difference(one: Features, other: Features) -> float:
    """The difference of two sums, for values that a change moves in one direction."""
    return abs(fsum(x or 0 for x in one) - fsum(x or 0 for x in other))


EVIDENCE = (
    Evidence("log-probabilities", lambda answer: answer.top, _logprobs),
    Evidence("text", lambda answer: answer.text),
    Evidence("token ids", lambda answer: answer.token_ids),
    Evidence("finish reason", lambda answer: answer.finish_reason),
    Evidence("usage", _usage),
    Evidence("long text", lambda answer: answer.text, kind=RoundKind.LONG),
    Evidence("long token ids", lambda answer: answer.token_ids, kind=RoundKind.LONG),
    Evidence("long finish reason", lambda answer: answer.finish_reason, kind=RoundKind.LONG),
    Evidence("long usage", _usage, kind=RoundKind.LONG),
    Evidence("sampled text", lambda answer: answer.text, kind=RoundKind.SAMPLED),
    Evidence(
        "margins",
        _margin,
        _total_difference,
        RoundKind.SCORED,
        if_missing="the server does not sample with the noise of the reference",
    ),
    Evidence("likelihood", _surprise, _total_difference, RoundKind.SCORED),
    Evidence("number of tokens", _tokens, kind=RoundKind.SCORED),
)
"""All kinds of evidence; each is tested on its own, with one false-alarm rate for all."""


def evidence_of(sessions: Sequence[DriftSession]) -> list[Evidence]:
    """The kinds of evidence that these sessions show."""
    return [evidence for evidence in EVIDENCE if evidence.is_shown(sessions)]
