"""Chainette's own call of an engine works unchanged.

`ChainetteStep` is a stand-in written from the plan of Chainette's engine refactor: its `Step` calls
`generate` with these four keywords, reads `raw.outputs[0].text` and `.reasoning_content`, and
coerces the text into the step's pydantic model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import MockServer, Script

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(BaseModel):
    """A step's output model."""

    answer: Literal["yes", "no"]
    reason: str = Field(max_length=40)


@dataclass
class ChainetteStep:
    """The calls that Chainette's Step makes, and no others."""

    id: str
    engine: Any
    output_model: type[BaseModel]
    sampling: Any
    emit_reasoning: bool = False

    def execute(self, prompts: Sequence[Any]) -> list[tuple[BaseModel, str | None]]:
        """The parsed answer and the reasoning of each prompt, in order."""
        raws = self.engine.generate(
            prompts=prompts,
            output_model=self.output_model,
            sampling_params=self.sampling,
            step_id=self.id,
        )
        return [(self._parsed(raw.outputs[0].text), self._reasoning(raw)) for raw in raws]

    def _parsed(self, text: str) -> BaseModel:
        return self.output_model.model_validate(json.loads(text))

    def _reasoning(self, raw: Any) -> str | None:
        return raw.outputs[0].reasoning_content if self.emit_reasoning else None


@dataclass
class VLLMSamplingParams:
    """The attributes of ``vllm.SamplingParams`` that a Chainette step sets."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 80
    seed: int = 1
    stop: Sequence[str] = ()


CHATS = [
    [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": "Is ice cold?"},
    ],
    [{"role": "user", "content": "Is fire cold? Answer yes or no, with a short reason."}],
]


@pytest.mark.parametrize(
    "sampling", [SamplingParams(temperature=0, max_tokens=80), VLLMSamplingParams()]
)
def test_on_a_scripted_server(sampling: Any) -> None:
    """Chainette finds the text and the reasoning; the server gets conversations and sampling."""
    replies = [
        {"content": '{"answer": "yes", "reason": "frozen"}', "reasoning": "Ice is water."},
        {"content": '{"answer": "no", "reason": "flames"}'},
    ]
    with MockServer(script=Script(replies)) as server:
        config = EngineConfig(
            name="chainette",
            backend="vllm_api",
            model="mock",
            endpoint=server.root_url,
            max_concurrency=1,
            structured="json_schema",  # no probe: the script is for the step
        )
        step = ChainetteStep("judge", config.engine, Verdict, sampling, emit_reasoning=True)
        answers = step.execute(CHATS)

    assert answers == [
        (Verdict(answer="yes", reason="frozen"), "Ice is water."),
        (Verdict(answer="no", reason="flames"), None),
    ]
    bodies = [call.json for call in server.calls if call.method == "POST"][-2:]
    assert [body["messages"] for body in bodies] == CHATS
    assert (bodies[0]["temperature"], bodies[0]["max_tokens"]) == (0, 80)
    assert bodies[0]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("prompts", [["Is ice cold?"], CHATS], ids=["strings", "conversations"])
def test_on_the_mock_engine(prompts: Sequence[Any]) -> None:
    """The mock engine answers strings and conversations."""
    with EngineConfig(backend="mock", model="mock").engine as engine:
        answers = ChainetteStep("judge", engine, Verdict, SamplingParams()).execute(prompts)
    assert len(answers) == len(prompts)


def test_on_the_embedded_engine(embedded: EngineConfig) -> None:
    """The answers of a real model fit the schema."""
    sampling = SamplingParams(temperature=0, max_tokens=80, seed=1)
    step = ChainetteStep("judge", embedded.engine, Verdict, sampling, emit_reasoning=True)
    (answer, reasoning), second = step.execute(CHATS)
    assert isinstance(answer, Verdict)
    assert reasoning is None
    assert isinstance(second[0], Verdict)
