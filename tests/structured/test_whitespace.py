"""A loop of blanks differs from formatting."""

from __future__ import annotations

import json

import pytest

from llmengine.structured.validation import LONGEST, WhitespaceWatch, ends_in_loop


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ('{"a":' + " " * LONGEST + "1}", False),
        ('{"a":' + " " * (LONGEST + 1), True),
        ('{"a":' + " \t\r\n" * 17, True),
        ('{"a": "' + " " * 500 + '"}', False),
        ('{"a": "\\"' + " " * 500 + '"}', False),
        ('{"a": "\\\\"' + " " * 500, True),
        (" " * 500, True),
        (json.dumps([[[[{"a": [1] * 50}]]]], indent=8), False),
    ],
)
def test_blanks_between_the_parts_count_wherever_they_are_cut(
    text: str, loops: bool, size: int
) -> None:
    """Blanks inside a string are text."""
    watch = WhitespaceWatch()

    pieces = [text[i : i + size] for i in range(0, len(text), size)]

    assert any(watch.loops(piece) for piece in pieces) is loops


def test_cut_answer_that_ends_in_blanks_was_looping() -> None:
    """A few blanks at the cut are chance."""
    assert ends_in_loop("{" + "\n" * (LONGEST + 1))
    assert not ends_in_loop("{" + "\n" * LONGEST)
