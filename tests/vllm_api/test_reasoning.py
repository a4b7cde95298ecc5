"""Reasoning of a real vLLM server, which must have a reasoning parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine import SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine

PROMPT = "Say hi"
GREEDY = SamplingParams(temperature=0, max_tokens=200)


@pytest.fixture
def thinking(live: Engine) -> Engine:
    """The configured server, if it separates reasoning from text."""
    if live.generate(PROMPT, GREEDY)[0].reasoning is None:
        pytest.skip(
            "this server parts no reasoning from the text; serve a model that reasons with "
            "--reasoning-parser (such as deepseek_r1 or qwen3)"
        )
    return live


def test_a_stream_parts_reasoning_as_a_whole_answer_does(thinking: Engine) -> None:
    """Reasoning and text are the same streamed and whole, without tags."""
    (output,) = thinking.generate(PROMPT, GREEDY)
    deltas = list(thinking.stream(PROMPT, GREEDY))
    assert "".join(d.reasoning for d in deltas) == output.reasoning
    assert "".join(d.text for d in deltas) == output.outputs[0].text
    assert "think>" not in f"{output.reasoning}{output.outputs[0].text}"


def test_a_constraint_holds_after_the_reasoning(thinking: Engine) -> None:
    """The model may reason freely, and then must choose."""
    held = SamplingParams(
        temperature=0, max_tokens=200, structured_outputs={"choice": ["Lisbon", "Oslo"]}
    )
    (output,) = thinking.generate(PROMPT, held)
    assert output.reasoning
    assert output.outputs[0].text in {"Lisbon", "Oslo"}


def test_reasoning_can_be_handed_back(thinking: Engine) -> None:
    """An earlier answer with its reasoning may be part of the conversation."""
    (output,) = thinking.generate(PROMPT, GREEDY)
    said = {
        "role": "assistant",
        "content": output.outputs[0].text,
        "reasoning": output.reasoning,
    }
    again = [{"role": "user", "content": PROMPT}, said, {"role": "user", "content": "Again"}]
    assert thinking.generate(again, GREEDY)[0].outputs[0].finish_reason
