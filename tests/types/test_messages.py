"""Prompts in their normal form."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from llmengine import InvalidRequestError
from llmengine.types.request import to_messages


def test_a_string_is_one_user_message() -> None:
    """Any text is a prompt, also an empty one."""
    assert to_messages("é") == ({"role": "user", "content": "é"},)
    assert to_messages("") == ({"role": "user", "content": ""},)


def test_messages_stay_as_they_are() -> None:
    """Every field is kept, on copies that the caller does not share."""
    mine = {"role": "user", "content": "a", "name": "x"}
    messages = to_messages([mine, MappingProxyType({"role": "tool", "content": "b"})])
    assert messages == (mine, {"role": "tool", "content": "b"})
    assert messages[0] is not mine


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (5, "prompt 3 is a int"),
        (None, "prompt 3 is a NoneType"),
        (b"Hi", "prompt 3 is a bytes"),
        ({"role": "user", "content": "a"}, "prompt 3 is a dict"),
        ([], "prompt 3 is an empty list"),
        (["Hi"], "prompt 3, message 0 is 'Hi'"),
        ([{"role": "user"}, {"content": "a"}], "prompt 3, message 1 is {'content': 'a'}"),
        ([{"role": None}], "prompt 3, message 0 is"),
    ],
)
def test_other_prompts_are_refused(prompt: Any, words: str) -> None:
    """The error names the index in the batch and in the conversation."""
    with pytest.raises(InvalidRequestError) as failed:
        to_messages(prompt, index=3)
    assert words in str(failed.value)


def test_an_error_does_not_repeat_a_whole_prompt() -> None:
    """A long prompt is shortened in the message."""
    with pytest.raises(InvalidRequestError) as failed:
        to_messages([{"content": "x" * 10_000}])
    assert len(str(failed.value)) < 300
