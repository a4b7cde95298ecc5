"""Instructions that the mock follows, such as a check can give to any model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Api


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Repeat exactly: a, b and c.", "a, b and c."),
        ("Please repeat this text exactly: Ünïcödé\nline two", "Ünïcödé\nline two"),
        ("Echo: zebra-7f3a", "zebra-7f3a"),
        ("Answer only with the word ZEBRA.", "ZEBRA"),
        ("Reply with a single word: yes", "yes"),
        ("Count from 1 to 5.", "1, 2, 3, 4, 5"),
    ],
)
def test_literal_orders_are_obeyed(reference: Api, prompt: str, answer: str) -> None:
    """The answer is what the prompt dictates."""
    assert reference.text(prompt) == answer


@pytest.mark.parametrize("role", ["system", "developer"])
def test_orders_of_the_operator_win(reference: Api, role: str) -> None:
    """A system or developer message takes precedence over the user's message."""
    order = {"role": role, "content": "Answer only with the word BANANA."}

    assert reference.text([order, {"role": "user", "content": "Who are you?"}]) == "BANANA"


def test_history_is_remembered(reference: Api) -> None:
    """The answer to a question uses a fact from an earlier turn, if there is one."""
    question = {"role": "user", "content": "What is my name?"}
    told = [
        {"role": "user", "content": "My name is Ludmila."},
        {"role": "assistant", "content": "Hello."},
        question,
    ]

    assert "Ludmila" in reference.text(told)
    assert "Ludmila" not in reference.text([question])


def test_tool_result_is_used(reference: Api) -> None:
    """The answer after a tool's result contains the result."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Call f."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42 apples"},
    ]

    assert "42 apples" in reference.text(turns)
