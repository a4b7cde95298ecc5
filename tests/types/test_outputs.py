"""Outputs: sums, shortcuts and pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

from llmengine import (
    CompletionOutput,
    Delta,
    LLMOutput,
    Logprob,
    RateLimitError,
    Result,
    ToolCall,
    Usage,
)
from llmengine.types.outputs import ToolCallDelta

OUTPUT = LLMOutput(
    "r",
    "Hi",
    (
        CompletionOutput(
            0,
            "é",
            (1, 2),
            -0.5,
            (Logprob("é", -0.5, (195, 169), (Logprob("e", -1.0),)),),
            "stop",
            reasoning="hm",
            tool_calls=(ToolCall("c", "f", "{}"),),
            parsed={"a": 1},
        ),
        CompletionOutput(1, "b"),
    ),
    usage=Usage(1, 2, 3),
    prompt_logprobs=(None, {7: Logprob("a", -1.0)}),
)


def test_outputs_survive_pickling_and_copying() -> None:
    """Outputs can be sent to another process."""
    assert pickle.loads(pickle.dumps(OUTPUT)) == OUTPUT
    assert copy.deepcopy(OUTPUT) == OUTPUT


def test_the_first_answer_has_shortcuts() -> None:
    """The output itself has what most callers want."""
    assert OUTPUT.parsed == {"a": 1}
    assert OUTPUT.reasoning == OUTPUT.reasoning_content == "hm"
    assert OUTPUT.outputs[0].reasoning_content == "hm"
    assert OUTPUT.tool_calls == (ToolCall("c", "f", "{}"),)


def test_an_output_without_answers_has_empty_shortcuts() -> None:
    """The partial output of a failure may be empty."""
    empty = LLMOutput("r", "Hi", ())
    assert (empty.parsed, empty.reasoning, empty.tool_calls) == (None, None, ())


def test_usage_is_summed_where_it_is_known() -> None:
    """A count that both lack stays unknown; None is not 0."""
    both = Usage(1, 2, 3, cached_tokens=0) + Usage(10, None, 30)
    assert both == Usage(11, 2, 33, cached_tokens=0, reasoning_tokens=None)


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (Delta("a"), True),
        (Delta(reasoning="a"), True),
        (Delta(tool_calls=(ToolCallDelta(0),)), True),
        (Delta(finish_reason="stop"), False),
        (Delta(usage=Usage(1)), False),
    ],
)
def test_which_deltas_have_content(delta: Delta, expected: bool) -> None:
    """Only generated text, reasoning or calls count as content."""
    assert delta.has_content is expected


def test_unwrapping_a_result() -> None:
    """The output is returned, or the error is raised."""
    assert Result(output=OUTPUT).unwrap() is OUTPUT
    failed = Result(error=RateLimitError("slow"))
    assert not failed.ok
    with pytest.raises(RateLimitError, match="slow"):
        failed.unwrap()
