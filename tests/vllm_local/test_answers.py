"""How vLLM's answers become outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine import SamplingParams, Usage

if TYPE_CHECKING:
    from llmengine import Engine


def test_an_answer_has_all_facts_of_vllm(engine: Engine) -> None:
    """Tokens, reasons and counts are vLLM's; token ids come without being asked for."""
    (output,) = engine.generate("x", SamplingParams(max_tokens=3))
    (answer,) = output.outputs
    assert (output.prompt, output.prompt_token_ids, output.model) == ("x", (1, 2), "counting")
    assert (answer.text, answer.token_ids) == ("one two three ", (100, 101, 102))
    assert (answer.finish_reason, answer.logprobs, answer.cumulative_logprob) == (
        "length",
        None,
        None,
    )
    assert output.usage == Usage(2, 3, 5, cached_tokens=1)


def test_a_stream_brings_every_step(engine: Engine) -> None:
    """The prompt's tokens come first, then one delta per step, and the usage last."""
    first, *steps, last = engine.stream("x", SamplingParams(max_tokens=3))
    assert first.prompt_token_ids == (1, 2)
    assert [s.text for s in steps] == ["one ", "two ", "three "]
    assert [s.token_ids for s in steps] == [(100,), (101,), (102,)]
    assert [s.finish_reason for s in steps] == [None, None, "length"]
    assert last.usage == Usage(2, 3, 5, cached_tokens=1)
