"""Kinds of evidence about a model: what is read from an answer, and how far two rounds differ.

A kind of evidence is one row of a table. All distances are numbers of prompts: a value that is
another counts as 1, and a log-probability of the first token counts as at most 1 on average over
the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_llmengine.drift.baseline import DriftUnit
from pytest_llmengine.statistics import logprob_distance, value_distance
from pytest_llmengine.statistics.two_sample import mean_distance

if TYPE_CHECKING:
    from pytest_llmengine.drift.answers import DriftAnswer, DriftRound, DriftSession

Features = Sequence[Any]
"""What one round shows of one kind of evidence: one value per prompt."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One kind of evidence.

    ``of_answer`` reads its value from an answer; None means that the server does not show it.
    ``long`` says whether it is about the long answers.
    """

    name: str
    of_answer: Callable[[DriftAnswer], Any]
    distance: Callable[[Features, Features], float] = value_distance
    long: bool = False

    def rounds_of(self, session: DriftSession) -> Sequence[DriftRound]:
        """The rounds of a session that this evidence is about."""
        return session.long_rounds if self.long else session.rounds

    def features(self, session: DriftSession) -> list[Features]:
        """The values of each round of a session."""
        return [[*map(self.of_answer, one.answers)] for one in self.rounds_of(session)]

    def is_shown(self, sessions: Sequence[DriftSession]) -> bool:
        """Whether any answer of these sessions shows it."""
        return any(value is not None for s in sessions for one in self.features(s) for value in one)

    def units(self, sessions: Sequence[DriftSession], unit: DriftUnit) -> list[list[Features]]:
        """The units of these sessions, each as a list of rounds."""
        rounds = [self.features(session) for session in sessions]
        if unit is DriftUnit.SESSION:
            return rounds
        return [[one] for session in rounds for one in session]

    def unit_distance(self, one: Sequence[Features], other: Sequence[Features]) -> float:
        """The mean distance between the rounds of two units."""
        return mean_distance(one, other, self.distance)


def _usage(answer: DriftAnswer) -> tuple[int | None, int | None] | None:
    usage = answer.prompt_tokens, answer.completion_tokens
    return None if usage == (None, None) else usage


def _logprobs(one: Features, other: Features) -> float:
    return logprob_distance([top or {} for top in one], [top or {} for top in other])


EVIDENCE = (
    Evidence("log-probabilities", lambda answer: answer.top, _logprobs),
    Evidence("text", lambda answer: answer.text),
    Evidence("token ids", lambda answer: answer.token_ids),
    Evidence("finish reason", lambda answer: answer.finish_reason),
    Evidence("usage", _usage),
    Evidence("long text", lambda answer: answer.text, long=True),
    Evidence("long token ids", lambda answer: answer.token_ids, long=True),
    Evidence("long finish reason", lambda answer: answer.finish_reason, long=True),
    Evidence("long usage", _usage, long=True),
)
"""All kinds of evidence; each is tested on its own, with one false-alarm rate for all."""


def evidence_of(sessions: Sequence[DriftSession]) -> list[Evidence]:
    """The kinds of evidence that these sessions show."""
    return [evidence for evidence in EVIDENCE if evidence.is_shown(sessions)]
