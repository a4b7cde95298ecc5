"""Control characters are shown as escapes, so that a terminal does not obey them."""

from __future__ import annotations

import pytest

from llmengine import LLMEngineError, UnexpectedResponseError
from llmengine.types.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("over\rwritten\b\x7f", r"over\x0dwritten\x08\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\u202ecba\u2069", r"abc\u202ecba\u2069"),
        ("a\ud800b\u2028c", r"a\ud800b\u2028c"),
        ("lines\nand\ttabs, Grüße, 日本語, 👩‍👧", "lines\nand\ttabs, Grüße, 日本語, 👩‍👧"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    """C0 and C1, bidi marks and lone surrogates; no letters of any script."""
    assert printable(text) == shown


@pytest.mark.parametrize("kind", [LLMEngineError, UnexpectedResponseError])
def test_errors_are_printable(kind: type[Exception]) -> None:
    """A printed error sends no command to the terminal."""
    assert str(kind("it said \x1b[2J")) == r"it said \x1b[2J"
