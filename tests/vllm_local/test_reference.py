"""vLLM itself as the reference of drift's weights tier; docs/vllm_local.md says how to run this."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.drift.answers import DriftError
from pytest_llmengine.drift.reference import VLLMReference
from pytest_llmengine.drift.weights import WeightsMeter, weights_probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.filterwarnings("default")  # torch and vLLM warn while they load


@pytest.fixture(scope="module")
def reference(real_model: str, real_options: Mapping[str, Any]) -> Iterator[VLLMReference]:
    """The reference, in float32."""
    loaded = VLLMReference(real_model, real_options)
    yield loaded
    loaded.close()


def test_it_samples_its_tokens_again(reference: VLLMReference) -> None:
    """In float32 it chooses every one of its tokens, whatever the batch was."""
    session = WeightsMeter(reference, weights_probe()).session(3, random.Random(0))
    scores = [answer.score for answer in session.answers if answer.score is not None]
    assert sum(score.tokens for score in scores) > 300
    assert [score.margin for score in scores] == [0.0] * 30


def test_it_knows_that_another_seed_was_used(reference: VLLMReference) -> None:
    """Tokens that were sampled with other noise have no margins, but the same likelihood."""
    meter = WeightsMeter(reference, weights_probe())
    session = meter.session(2, random.Random(0))
    other = tuple(replace(one, seed=(one.seed or 0) + 1) for one in session.rounds)
    again = meter.judged(replace(session, rounds=other))
    for before, after in zip(session.answers, again.answers, strict=True):
        assert before.score is not None
        assert after.score is not None
        assert after.score.margin is None
        assert after.score.logprob == before.score.logprob


def test_it_refuses_a_file_of_another_reference(reference: VLLMReference) -> None:
    """A file whose scores are other ones was recorded by another engine."""
    meter = WeightsMeter(reference, weights_probe())
    session = meter.session(1, random.Random(0))
    meter.require_same(session)
    (one,) = session.rounds
    answers = tuple(
        replace(answer, score=answer.score and replace(answer.score, logprob=-9.0))
        for answer in one.answers
    )
    with pytest.raises(DriftError, match="does not judge the tokens of the file as it did"):
        meter.require_same(replace(session, rounds=(replace(one, answers=answers),)))
