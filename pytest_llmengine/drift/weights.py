"""The tier for a server whose weights are at hand: its sampled tokens, judged by a reference.

Every round has a seed of its own, since a second round with the same seed would show nothing new.
The rounds of the baseline are the reference's own, so a check compares how well the reference
explains the server's tokens with how well it explains its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from pytest_llmengine.containers.docker import silent
from pytest_llmengine.drift.answers import (
    DriftAnswer,
    DriftError,
    DriftPrompt,
    DriftRound,
    DriftSession,
    RoundKind,
)
from pytest_llmengine.drift.baseline import DriftTier, Probe
from pytest_llmengine.drift.measure import SAMPLING, SEEDS
from pytest_llmengine.drift.token_scores import shares_noise

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.drift.token_scores import AnswerScore

MAX_TOKENS = 16

_SAME = 1e-3  # nats per token; the same kernels give the same bits

_TEXTS = (
    "Tell me about a city that does not exist.",
    "Make up a name for a boat and say why it has it.",
    "Write a short story about a lamp.",
    "Describe a market in the morning.",
    "Explain how bread is made.",
    "Give me three ideas for a rainy day.",
    "Write a letter to a friend who moved away.",
    "What would you ask a stranger on a train?",
    "Describe a garden in winter.",
    "Invent a game for two children.",
)


class TokenJudge(Protocol):
    """What samples and judges answers; see `pytest_llmengine.drift.reference.VLLMReference`."""

    def prompt_tokens(self, prompt: str) -> int:
        """The number of tokens of a prompt, those of the chat template included."""

    def answers(
        self, prompts: Sequence[str], seed: int, max_tokens: int, load: int
    ) -> list[tuple[int, ...]]:
        """The token ids of one answer per prompt, so many at a time."""

    def scores(
        self, prompts: Sequence[str], seed: int, answers: Sequence[tuple[int, ...]]
    ) -> list[AnswerScore]:
        """The scores of answers that were sampled with this seed."""


def weights_probe() -> Probe:
    """What is asked in this tier."""
    prompts = (
        DriftPrompt(text=text, kind=RoundKind.SCORED, max_tokens=MAX_TOKENS, temperature=1.0)
        for text in _TEXTS
    )
    return Probe(tier=DriftTier.WEIGHTS, sampling=SAMPLING, prompts=tuple(prompts))


@dataclass(frozen=True, slots=True)
class WeightsMeter:
    """Measures the reference itself, and judges the sessions of servers."""

    reference: TokenJudge
    probe: Probe
    on_progress: OnProgress = silent

    def session(self, rounds: int, chance: random.Random) -> DriftSession:
        """One session of the reference, with its own scores.

        Raises DriftError if it does not reproduce its own tokens.
        """
        sampled = []
        for number in range(rounds):
            self.on_progress("reference, rounds", number, rounds)
            sampled.append(self._sampled(chance.randrange(SEEDS), chance.choice(self.probe.loads)))
        session = self.judged(DriftSession(rounds=tuple(sampled)))
        if any(answer.score and answer.score.margin is None for answer in session.answers):
            raise DriftError(
                "the reference does not sample its own tokens again under their seed; with "
                "a GPU, set VLLM_USE_V2_MODEL_RUNNER=0 for the reference and for the server"
            )
        return session

    def judged(self, session: DriftSession) -> DriftSession:
        """A session with the score of every answer.

        The scores have no margins if the server does not sample with the reference's noise.
        Raises DriftError if the server does not show the ids of its tokens.
        """
        rounds = []
        for number, one in enumerate(session.rounds):
            self.on_progress("judged rounds", number, len(session.rounds))
            rounds.append(self._judged(one))
        scored = replace(session, rounds=tuple(rounds))
        scores = [answer.score for answer in scored.answers if answer.score is not None]
        return scored if shares_noise(scores) else _without_margins(scored)

    def require_same(self, recorded: DriftSession) -> None:
        """Raise DriftError unless the reference judges a recorded round as it did before."""
        one = recorded.rounds[0]
        again = self._judged(one)
        differences = [
            abs(now.score.logprob - before.score.logprob)
            for now, before in zip(again.answers, one.answers, strict=True)
            if now.score is not None and before.score is not None
        ]
        if max(differences, default=1.0) > _SAME:
            raise DriftError(
                "the reference does not judge the tokens of the file as it did when they were "
                "recorded: its weights, its dtype, its version or its processor is another one; "
                "give --reference and --config as for the recording, or record the file again"
            )

    def _sampled(self, seed: int, load: int) -> DriftRound:
        prompts = self.probe.of_kind(RoundKind.SCORED)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        texts = [prompt.text for prompt in prompts.values()]
        answers = self.reference.answers(
            texts, seed, max(p.max_tokens for p in prompts.values()), load
        )
        rows = (
            DriftAnswer(
                prompt=n,
                token_ids=ids,
                prompt_tokens=self.reference.prompt_tokens(prompts[n].text),
                completion_tokens=len(ids),
            )
            for n, ids in zip(prompts, answers, strict=True)
        )
        return DriftRound(
            kind=RoundKind.SCORED, load=load, time=now, seed=seed, answers=tuple(rows)
        )

    def _judged(self, one: DriftRound) -> DriftRound:
        ids = [answer.token_ids for answer in one.answers]
        if None in ids or one.seed is None:
            raise DriftError(
                "the server does not show the ids of its tokens, which the reference judges; "
                "vLLM's server does (backend vllm_api)"
            )
        texts = [self.probe.prompts[answer.prompt].text for answer in one.answers]
        scores = self.reference.scores(texts, one.seed, [found or () for found in ids])
        rows = (replace(a, score=score) for a, score in zip(one.answers, scores, strict=True))
        return replace(one, answers=tuple(rows))


def _without_margins(session: DriftSession) -> DriftSession:
    rounds = (
        replace(one, answers=tuple(map(_without_margin, one.answers))) for one in session.rounds
    )
    return replace(session, rounds=tuple(rounds))


def _without_margin(answer: DriftAnswer) -> DriftAnswer:
    assert answer.score is not None
    return replace(answer, score=replace(answer.score, margin=None))
