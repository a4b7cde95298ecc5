"""A language model of a few tokens, as a server and as a reference, with a sampler under a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from math import exp, fsum, log
from typing import TYPE_CHECKING

from pytest_llmengine.drift.answers import DriftAnswer, DriftRound, DriftSession, RoundKind
from pytest_llmengine.drift.token_scores import AnswerScore, TokenScore, margin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VOCABULARY = 8
LENGTH = 12


@dataclass(frozen=True)
class ToyModel:
    """Samples tokens whose log-probabilities depend on the prompt and on the token before.

    ``change`` is the standard deviation of what changed weights add to a log-probability, and
    ``rounding`` that of what the kernels add at random. ``temperature`` divides all of them.
    ``own_noise`` is part of the sampler's noise; a sampler of another kind has another one.
    """

    change: float = 0.0
    rounding: float = 0.0
    temperature: float = 1.0
    own_noise: str = ""

    def prompt_tokens(self, prompt: str) -> int:
        """The number of tokens of a prompt."""
        return len(prompt)

    def answers(
        self, prompts: Sequence[str], seed: int, max_tokens: int, load: int
    ) -> list[tuple[int, ...]]:
        """The token ids of one answer per prompt."""
        chance = random.Random(f"{seed} {load} {self}")
        return [self._sampled(prompt, seed, max_tokens, chance) for prompt in prompts]

    def scores(
        self, prompts: Sequence[str], seed: int, answers: Sequence[tuple[int, ...]]
    ) -> list[AnswerScore]:
        """The scores of answers that were sampled with this seed."""
        chance = random.Random(f"scores {seed}")
        return [
            AnswerScore.of(self._judged(prompt, seed, ids, chance))
            for prompt, ids in zip(prompts, answers, strict=True)
        ]

    def _sampled(
        self, prompt: str, seed: int, length: int, chance: random.Random
    ) -> tuple[int, ...]:
        ids: list[int] = []
        for _ in range(length):
            row = self._row(prompt, ids, chance)
            ids.append(_chosen(row, self._noise(seed, len(ids))))
        return tuple(ids)

    def _judged(
        self, prompt: str, seed: int, ids: Sequence[int], chance: random.Random
    ) -> Iterator[TokenScore]:
        for position, token in enumerate(ids):
            row, noise = self._row(prompt, ids[:position], chance), self._noise(seed, position)

            def is_chosen(
                more: float, token: int = token, row: list[float] = row, noise: list[float] = noise
            ) -> bool:
                changed = [value + more * (n == token) for n, value in enumerate(row)]
                return _chosen(changed, noise) == token

            total = log(fsum(map(exp, row)))
            logprobs = {n: value - total for n, value in enumerate(row)}
            yield TokenScore.of(token, logprobs, margin_of(is_chosen))

    def _row(self, prompt: str, before: Sequence[int], chance: random.Random) -> list[float]:
        here = f"{prompt} {before[-1] if before else ''}"
        exact = _normal(here, 2.0)
        changed = _normal(f"changed {here}", self.change)
        return [
            (x + y + chance.gauss(0, self.rounding)) / self.temperature
            for x, y in zip(exact, changed, strict=True)
        ]

    def _noise(self, seed: int, position: int) -> list[float]:
        chance = random.Random(f"{self.own_noise} {seed} {position}")
        return [-log(-log(chance.random())) for _ in range(VOCABULARY)]


@cache
def _normal(key: str, deviation: float) -> list[float]:
    chance = random.Random(key)
    return [chance.gauss(0, deviation) for _ in range(VOCABULARY)]


def _chosen(row: Sequence[float], noise: Sequence[float]) -> int:
    scores = [x + y for x, y in zip(row, noise, strict=True)]
    return scores.index(max(scores))


def session_of(
    server: ToyModel, prompts: Sequence[str], rounds: int, chance: random.Random
) -> DriftSession:
    """What a server answered in some rounds, not yet judged."""
    measured = []
    for _ in range(rounds):
        seed, load = chance.randrange(2**31), chance.choice((1, 4, 16))
        ids = server.answers(prompts, seed, LENGTH, load)
        answers = tuple(DriftAnswer(prompt=n, token_ids=found) for n, found in enumerate(ids))
        measured.append(
            DriftRound(kind=RoundKind.SCORED, load=load, time="", seed=seed, answers=answers)
        )
    return DriftSession(rounds=tuple(measured))
