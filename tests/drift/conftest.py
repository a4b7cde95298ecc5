"""Servers that exist only as numbers: baselines and candidates without a request."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmengine.drift import (
    Baseline,
    DriftAnswer,
    DriftFacts,
    DriftPrompt,
    DriftRound,
    DriftSession,
    DriftTier,
    DriftUnit,
    Probe,
    RoundKind,
)

Edit = Callable[[DriftAnswer], DriftAnswer]
ROUNDS = {RoundKind.FIRST: 10, RoundKind.LONG: 4, RoundKind.SAMPLED: 4}
PROBE = Probe(
    tier=DriftTier.LOGPROBS,
    sampling={"seed": 0},
    prompts=(
        *(DriftPrompt(text=f"words {n}") for n in range(4)),
        DriftPrompt(text="a story", kind=RoundKind.LONG, max_tokens=3),
        DriftPrompt(text="a draw", kind=RoundKind.SAMPLED, max_tokens=3, temperature=1.0),
    ),
)
FACTS = DriftFacts(name="here", backend="vllm_api", server="vLLM", context=4096)
TOKENS = ("red", "blue", "green", "grey")


def answer_of(prompt: int, noise: Callable[[], float]) -> DriftAnswer:
    """An answer that agrees with itself; noise is added to its log-probabilities."""
    wanted = PROBE.prompts[prompt]
    values = (-0.9 - 0.01 * prompt, -0.93, -2.0, -4.0)
    top = {token: value + noise() for token, value in zip(TOKENS, values, strict=True)}
    tokens = (max(top, key=top.__getitem__), "pink", "gold")[: wanted.max_tokens]
    return DriftAnswer(
        prompt=prompt,
        text="".join(tokens),
        tokens=tokens,
        logprobs=(max(top.values()), -0.1, -0.1)[: wanted.max_tokens],
        top=top,
        finish_reason="length",
        prompt_tokens=8,
        completion_tokens=wanted.max_tokens,
    )


def session_of(
    rounds: dict[RoundKind, int] = ROUNDS,
    edit: Edit = lambda answer: answer,
    noise: Callable[[], float] = lambda: 0.0,
    **fields: Any,
) -> DriftSession:
    """A session of a server; ``edit`` changes its answers."""
    measured = [
        DriftRound(
            kind=kind,
            load=1,
            time="2026-01-01T00:00:00+00:00",
            answers=tuple(edit(answer_of(n, noise)) for n in PROBE.of_kind(kind)),
        )
        for kind, count in rounds.items()
        for _ in range(count)
    ]
    return DriftSession(rounds=tuple(measured), requests=len(measured), **fields)


def batched_of(session: DriftSession, change: Edit) -> DriftSession:
    """A session in which every fourth round has more requests in flight, which changes answers."""
    rounds = [
        replace(one, load=4, answers=tuple(map(change, one.answers))) if n % 4 == 3 else one
        for n, one in enumerate(session.rounds)
    ]
    return replace(session, rounds=tuple(rounds))


def baseline_of(sessions: Iterable[DriftSession], **fields: Any) -> Baseline:
    """A baseline with these sessions."""
    known = {"unit": DriftUnit.ROUND, "date": "2026-01-01", "tool_version": "0"}
    return Baseline(facts=FACTS, probe=PROBE, sessions=tuple(sessions), **{**known, **fields})


@pytest.fixture
def quiet() -> Baseline:
    """A server that always answers the same."""
    return baseline_of(session_of(dict.fromkeys(RoundKind, 5)) for _ in range(4))


@pytest.fixture
def noisy() -> Baseline:
    """A server whose log-probabilities vary a little, each time on its own."""
    chance = random.Random(1)
    rounds = {RoundKind.FIRST: 3}
    return baseline_of(session_of(rounds, noise=lambda: chance.gauss(0, 0.01)) for _ in range(4))


@pytest.fixture
def make_session() -> Callable[..., DriftSession]:
    """Makes a session of the server, with edited answers or with noise."""
    return session_of


@pytest.fixture
def batched() -> Callable[..., DriftSession]:
    """Makes a session in which some rounds are of more requests in flight."""
    return batched_of


@pytest.fixture
def make_baseline() -> Callable[..., Baseline]:
    """Makes a baseline of sessions."""
    return baseline_of


@pytest.fixture
def edit() -> Callable[..., Edit]:
    """Makes an edit that replaces fields of an answer by values or by functions of it."""

    def make(*, only: Callable[[DriftAnswer], bool] = lambda answer: True, **fields: Any) -> Edit:
        def change(answer: DriftAnswer) -> DriftAnswer:
            if not only(answer):
                return answer
            values = {k: v(answer) if callable(v) else v for k, v in fields.items()}
            return replace(answer, **values)

        return change

    return make
