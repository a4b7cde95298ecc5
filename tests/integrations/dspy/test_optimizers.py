"""DSPy's optimizers, end to end on a real small model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pytest

from llmengine.integrations.dspy import to_lm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine import EngineConfig

REVIEWS = {
    "I loved it, wonderful.": "good",
    "Terrible, I hated it.": "bad",
    "Great fun.": "good",
    "Awful and boring.": "bad",
}
PROPOSAL_TOKENS = 80


@dataclass
class Task:
    """Reviews that a model rates as good or bad; its requests are counted, answers fit a schema."""

    dspy: Any
    program: Any
    examples: list[Any]
    lm: Any
    calls: list[str] = field(default_factory=list)

    def answers(self, program: Any) -> list[str]:
        """What a program says of the reviews."""
        return [program(review=example.review).mood for example in self.examples]


def agrees(gold: Any, said: Any, *_: Any) -> bool:
    """The metric, which ignores the words around the answer of a model on 2.4."""
    return gold.mood in str(said.mood).lower()


def _program(dspy: Any, fields: dict[str, Any]) -> Any:
    """A module, because optimizers of 2.4 do not accept a Predict."""

    class Moods(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict(dspy.Signature(fields, "Is the review good or bad?"))

        def forward(self, review: str) -> Any:
            return self.predict(review=review)

    return Moods()


@pytest.fixture
def task(modern: Any, embedded: EngineConfig) -> Iterator[Task]:
    """The task on the embedded engine, on DSPy 3."""
    dspy, calls = modern, []

    class Counting(dspy.utils.callback.BaseCallback):  # type: ignore[misc, name-defined] # untyped
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            calls.append(str(inputs))

    fields = {
        "review": (str, dspy.InputField()),
        "mood": (Literal["good", "bad"], dspy.OutputField()),
    }
    examples = [dspy.Example(review=r, mood=m).with_inputs("review") for r, m in REVIEWS.items()]
    with embedded.engine as engine:
        lm = to_lm(engine, temperature=0, max_tokens=PROPOSAL_TOKENS)
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), callbacks=[Counting()]):
            yield Task(dspy, _program(dspy, fields), examples, lm, calls)


def test_bootstrap_keeps_what_the_model_got_right(task: Task) -> None:
    """Demos are traces of answers that the metric accepted, and go into the next prompts."""
    optimizer = task.dspy.BootstrapFewShot(metric=agrees, max_bootstrapped_demos=2)
    better = optimizer.compile(task.program, trainset=task.examples)

    (predictor,) = better.predictors()
    kept = [demo for demo in predictor.demos if demo.get("augmented")]
    assert 1 <= len(kept) <= 2
    assert all(REVIEWS[demo["review"]] == demo["mood"] for demo in kept)
    assert len(task.calls) <= len(REVIEWS)
    task.answers(better)
    assert kept[0]["review"] in task.calls[-1]


def test_mipro_tries_its_candidates(task: Task) -> None:
    """Instructions are proposed by the model, every trial is scored, and the best one is kept."""
    pytest.importorskip("optuna", reason="MIPROv2 needs it: pip install 'dspy[optuna]'")
    optimizer = task.dspy.MIPROv2(
        metric=agrees,
        auto=None,
        num_candidates=2,
        max_bootstrapped_demos=1,
        max_labeled_demos=1,
        num_threads=1,
    )
    better = optimizer.compile(
        task.program,
        trainset=task.examples[:2],
        valset=task.examples[2:],
        num_trials=2,
        minibatch=False,
        program_aware_proposer=False,
        data_aware_proposer=False,
        tip_aware_proposer=False,
    )

    trials = [t["full_eval_score"] for t in better.trial_logs.values() if "full_eval_score" in t]
    assert len(trials) >= 2
    assert better.score == max(trials)
    assert any("propose" in call.lower() for call in task.calls)
    assert set(task.answers(better)) <= {"good", "bad"}


def test_simba_scores_its_candidates(task: Task) -> None:
    """Candidates are made from better and worse answers of one batch, and scored on all."""
    optimizer = task.dspy.SIMBA(
        metric=agrees, bsize=2, num_candidates=2, max_steps=1, max_demos=1, num_threads=1
    )
    better = optimizer.compile(task.program, trainset=task.examples, seed=0)

    scores = [candidate["score"] for candidate in better.candidate_programs]
    assert scores == sorted(scores, reverse=True)
    assert len(task.calls) >= len(REVIEWS)
    assert set(task.answers(better)) <= {"good", "bad"}


def test_gepa_reflects_on_feedback(task: Task) -> None:
    """The reflection model gets the feedback on wrong answers, and its text is tried."""

    def with_feedback(gold: Any, said: Any, *_: Any) -> Any:
        return task.dspy.Prediction(score=float(agrees(gold, said)), feedback=f"It is {gold.mood}.")

    def metric(gold: Any, said: Any, trace: Any = None, name: Any = None, seen: Any = None) -> Any:
        return with_feedback(gold, said, trace, name, seen)

    optimizer = task.dspy.GEPA(
        metric=metric,
        max_metric_calls=8,
        reflection_minibatch_size=2,
        reflection_lm=task.lm,
        num_threads=1,
        track_stats=True,
    )
    better = optimizer.compile(task.program, trainset=task.examples[:2], valset=task.examples[2:])

    found = better.detailed_results
    assert found.total_metric_calls >= len(REVIEWS)
    assert any("It is bad." in call or "It is good." in call for call in task.calls)
    assert found.val_aggregate_scores[found.best_idx] == max(found.val_aggregate_scores)
    assert set(task.answers(better)) <= {"good", "bad"}


def test_bootstrap_of_2_4_keeps_what_the_model_got_right(
    legacy: Any, embedded: EngineConfig
) -> None:
    """DSPy 2.4 bootstraps over the same engine, from texts without a schema."""
    from dspy.teleprompt import BootstrapFewShot  # noqa: PLC0415 - not in every environment

    fields = {"review": legacy.InputField(), "mood": legacy.OutputField(desc="good or bad")}
    examples = [legacy.Example(review=r, mood=m).with_inputs("review") for r, m in REVIEWS.items()]
    with embedded.engine as engine, legacy.settings.context(lm=to_lm(engine, max_tokens=16)):
        optimizer = BootstrapFewShot(metric=agrees, max_labeled_demos=0, max_rounds=2)
        better = optimizer.compile(_program(legacy, fields), trainset=examples)
        (predictor,) = better.predictors()
        kept = [demo for demo in predictor.demos if demo.get("augmented")]
        assert all(agrees(legacy.Example(mood=REVIEWS[d.review]), d) for d in kept)
        assert kept
        assert better(review="Great fun.").mood
