"""GRPO with a training server that records its data and trains nothing."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.integrations.dspy import native_lm, to_lm
from llmengine.mock import Script

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import EngineConfig
    from llmengine.mock import MockServer

BATCHES = 2  # groups that the server asks for at each step
ROLLOUTS = 3


def _recording_provider(steps: list[list[dict[str, Any]]], log: list[str]) -> Any:
    """A DSPy provider that accepts training groups; each step needs two more batches."""
    from dspy.clients.provider import Provider, ReinforceJob  # noqa: PLC0415 - it is optional

    class Job(ReinforceJob):  # type: ignore[misc] # untyped
        def initialize(self) -> None:
            log.append("initialize")

        def get_status(self) -> dict[str, list[int]]:
            return {"pending_batch_ids": list(range(BATCHES * (len(steps) + 1)))}

        def step(self, train_data: list[dict[str, Any]], train_data_format: Any) -> None:
            log.append(str(train_data_format))
            steps.append(train_data)

        def terminate(self) -> None:
            log.append("terminate")

    class Recording(Provider):  # type: ignore[misc] # untyped
        def __init__(self) -> None:
            super().__init__()
            self.reinforceable = True
            self.ReinforceJob = Job

    return Recording()


@pytest.fixture(params=[to_lm, native_lm], ids=["ours", "native"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Our language model over an engine, and DSPy's own."""
    return request.param  # type: ignore[no-any-return] # pytest's


def _train(dspy: Any, lm: Any, *, steps: int) -> None:
    from dspy.teleprompt.grpo import GRPO  # noqa: PLC0415 - it is optional

    program = dspy.Predict("question -> answer")
    program.set_lm(lm)
    optimizer = GRPO(
        metric=lambda gold, said, *_: float(gold.answer == said.answer),
        exclude_demos=True,
        num_train_steps=steps,
        num_dspy_examples_per_grpo_step=1,
        num_rollouts_per_grpo_step=ROLLOUTS,
        num_threads=1,
    )
    example = dspy.Example(question="Where is the Louvre?", answer="Paris")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        optimizer.compile(program, trainset=[example.with_inputs("question")])


def test_groups_have_prompts_answers_and_rewards(
    modern: Any,
    make: Callable[..., Any],
    config: EngineConfig,
    server: MockServer,
    says: Callable[..., str],
) -> None:
    """Each group is the rollouts of one prompt: right, wrong and unreadable, with its reward."""
    told = [says(answer="Paris"), says(answer="Rome"), "somewhere"]
    server.play(Script(replies=islice(cycle(told), 2 * ROLLOUTS)))
    steps: list[list[dict[str, Any]]] = []
    log: list[str] = []
    provider = _recording_provider(steps, log)

    _train(modern, make(config, temperature=1.0, provider=provider), steps=2)

    assert [len(step) for step in steps] == [BATCHES, BATCHES]
    assert {item["batch_id"] for step in steps for item in step} == set(range(2 * BATCHES))
    for item in (item for step in steps for item in step):
        assert {r["completion"]["content"].split("\n")[0] for r in item["group"]} == {
            "[[ ## answer ## ]]",
            "somewhere",
        }
        assert sorted(r["reward"] for r in item["group"]) == [-1.0, 0.0, 1.0]
        assert all(r["messages"] == server.calls[0].json["messages"] for r in item["group"])
    assert (log[0], log[-1]) == ("initialize", "terminate")
    assert all("GRPO_CHAT" in line for line in log[1:-1])
    assert len(server.calls) == 2 * ROLLOUTS


def test_a_plain_server_cannot_be_trained(
    modern: Any, make: Callable[..., Any], config: EngineConfig
) -> None:
    """Without a provider that trains, GRPO ends before it sends anything."""
    from dspy.clients.provider import Provider  # noqa: PLC0415 - it is optional

    with pytest.raises(Exception, match="does not implement the reinforcement learning interface"):
        _train(modern, make(config, provider=Provider()), steps=1)
