"""The tier for a server whose weights are at hand, with a small model as server and reference."""

from __future__ import annotations

import random
from math import inf

import pytest

from pytest_llmengine.drift import (
    DriftAnswer,
    DriftError,
    DriftPrompt,
    DriftRound,
    DriftSession,
    DriftTier,
    DriftUnit,
    Probe,
    evidence_of,
)
from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.token_scores import margin_of
from pytest_llmengine.drift.weights import WeightsMeter
from pytest_llmengine.statistics import holm, permutation_test, stratum_of

from .toy_model import LENGTH, ToyModel, session_of

TEXTS = ("a river", "a lamp", "a garden")
PROBE = Probe(
    tier=DriftTier.WEIGHTS,
    sampling={},
    prompts=tuple(
        DriftPrompt(text=text, kind=RoundKind.SCORED, max_tokens=LENGTH, temperature=1.0)
        for text in TEXTS
    ),
)
ROUNDED = ToyModel(rounding=0.01)  # about what bfloat16 does to SmolLM2


def _meter(model: ToyModel) -> WeightsMeter:
    return WeightsMeter(model, PROBE)


def _p_values(
    baseline: DriftSession, candidate: DriftSession, draws: int = 199
) -> dict[str, float]:
    """The p-values of the kinds of evidence that both show, after Holm's correction for all."""
    p_values = {}
    for row in evidence_of([baseline]):
        ours = row.units([baseline], DriftUnit.ROUND)
        theirs = row.units([candidate], DriftUnit.ROUND)
        stratum = stratum_of(ours, theirs, row.unit_distance)
        p_values[row.name] = permutation_test([stratum], draws=draws).p_value
    return holm(p_values)


def _check(reference: ToyModel, server: ToyModel, seed: int = 0) -> dict[str, float]:
    meter, chance = _meter(reference), random.Random(f"check {seed}")
    baseline = meter.session(12, chance)
    return _p_values(baseline, meter.judged(session_of(server, TEXTS, 8, chance)))


@pytest.mark.parametrize("margin", [0.0, 0.00005, 0.003, 0.4, 5.0, inf])
def test_a_margin_is_what_the_token_lacks(margin: float) -> None:
    """Up to the rounding of float32 it is 0, and no more than 1."""
    expected = 0.0 if margin < 1e-4 else min(margin, 1.0)
    assert margin_of(lambda more: more >= margin) == pytest.approx(expected, abs=3e-4)


def test_the_reference_explains_its_own_tokens() -> None:
    """Without rounding it chooses each of them again."""
    session = _meter(ToyModel()).session(3, random.Random(0))
    assert [answer.score.margin for answer in session.answers if answer.score] == [0.0] * 9


def test_false_alarms_are_rare() -> None:
    """A server with the same weights and the same rounding is not found more often than it may."""
    chance = random.Random(0)
    rounds = _meter(ROUNDED).session(60, chance).rounds
    found = 0
    for _ in range(40):
        chosen = chance.sample(rounds, 20)
        ours, theirs = (
            DriftSession(rounds=tuple(chosen[:12])),
            DriftSession(rounds=tuple(chosen[12:])),
        )
        found += min(_p_values(ours, theirs).values()) <= 0.05
    assert found <= 6  # at 5%, more have a probability of 0.3%


@pytest.mark.parametrize(
    ("server", "found"),
    [
        (ToyModel(rounding=0.01, change=0.3), "margins"),
        (ToyModel(rounding=0.01, change=1.0), "likelihood"),
        (ToyModel(rounding=0.01, temperature=0.2), "likelihood"),
    ],
    ids=["changed-a-little", "changed", "colder"],
)
def test_a_change_is_found(server: ToyModel, found: str) -> None:
    """The margins show a small change of the weights, and the likelihood every larger one."""
    assert _check(ROUNDED, server)[found] <= 0.05


def test_another_sampler_is_not_another_model() -> None:
    """If the server's noise is not the reference's, only the likelihoods are compared."""
    meter, chance = _meter(ROUNDED), random.Random(0)
    baseline = meter.session(12, chance)
    server = ToyModel(rounding=0.01, own_noise="another sampler")
    candidate = meter.judged(session_of(server, TEXTS, 8, chance))
    shown = [row.name for row in evidence_of([candidate])]
    assert [row.name for row in evidence_of([baseline])] == ["margins", *shown]
    assert shown == ["likelihood", "number of tokens"]


def test_a_cut_answer_is_found() -> None:
    """A server that ends its answers early gives only tokens that the reference chooses too."""
    meter, chance = _meter(ROUNDED), random.Random(0)
    baseline = meter.session(12, chance)
    whole = session_of(ROUNDED, TEXTS, 8, chance)
    cut = DriftSession(
        rounds=tuple(
            DriftRound(
                kind=one.kind,
                load=one.load,
                time=one.time,
                seed=one.seed,
                answers=tuple(
                    DriftAnswer(prompt=a.prompt, token_ids=(a.token_ids or ())[:6])
                    for a in one.answers
                ),
            )
            for one in whole.rounds
        )
    )
    assert _p_values(baseline, meter.judged(cut))["number of tokens"] <= 0.05


def test_a_server_without_token_ids_is_refused() -> None:
    """The message says what the tier needs."""
    answers = tuple(DriftAnswer(prompt=n, text="hello") for n in range(3))
    one = DriftRound(kind=RoundKind.SCORED, load=1, time="", seed=1, answers=answers)
    with pytest.raises(DriftError, match="does not show the ids of its tokens"):
        _meter(ROUNDED).judged(DriftSession(rounds=(one,)))


def test_a_file_of_another_reference_is_refused() -> None:
    """The scores of the file must be those that the reference gives now."""
    session = _meter(ToyModel()).session(2, random.Random(0))
    _meter(ToyModel()).require_same(session)
    with pytest.raises(DriftError, match="does not judge the tokens of the file as it did"):
        _meter(ToyModel(change=0.1)).require_same(session)


class _Forgetful(ToyModel):
    """A reference whose sampler cannot be asked again."""

    def answers(self, *given: object, **named: object) -> list[tuple[int, ...]]:
        other = ToyModel(own_noise="another runner")
        return other.answers(*given, **named)  # type: ignore[arg-type]


def test_a_reference_that_does_not_know_itself_is_refused() -> None:
    """Its margins would accuse every server."""
    with pytest.raises(DriftError, match="does not sample its own tokens again"):
        _meter(_Forgetful()).session(3, random.Random(0))


def test_a_session_with_scores_survives_its_file() -> None:
    """Scores and seeds are written and read."""
    session = _meter(ROUNDED).session(2, random.Random(0))
    assert DriftSession.from_dict(session.to_dict()) == session
