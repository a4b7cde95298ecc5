"""The finish reason of an answer with tool calls, as vLLM's server gives it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llmengine.vllm_local.outputs import ParsedReader

NAMED = SimpleNamespace(type="function")


class Parser(SimpleNamespace):
    """Finds a call in every answer, as one of vLLM's parsers would."""

    def adjust_request(self, asked: Any) -> Any:
        """The request as it is."""
        return asked

    def set_prompt_token_ids(self, prompt: list[int]) -> None:
        """Do nothing: the prompt has no calls."""

    def parse(self, text: str, asked: Any, **_: Any) -> Any:
        """One call, for any answer."""
        return None, text, [SimpleNamespace(name="f", arguments="{}", id=None)]


@pytest.mark.parametrize(
    ("choice", "ended", "told"),
    [
        (None, "stop", "tool_calls"),
        ("auto", "stop", "tool_calls"),
        ("auto", "length", "tool_calls"),
        ("required", "stop", "tool_calls"),
        ("required", "length", "length"),
        (NAMED, "stop", "stop"),
        (NAMED, "length", "length"),
    ],
)
def test_calls_count_for_more_than_a_limit(choice: Any, ended: str, told: str) -> None:
    """An answer with calls has them as its finish reason, also if it was cut."""
    reader = ParsedReader(SimpleNamespace(tool_choice=choice, stream=False), Parser)
    answer = SimpleNamespace(index=0, text="x", token_ids=[1], finish_reason=ended)

    reader.message(answer, [1])

    assert reader.finish_reason(answer) == told
