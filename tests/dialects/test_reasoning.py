"""Reasoning between ``<think>`` tags, however the text is split."""

from __future__ import annotations

import pytest

from llmengine.dialects.common import ThinkSplitter, split_think, split_unopened


def _joined(*pieces: str) -> tuple[str | None, str]:
    splitter = ThinkSplitter()
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.finish()]
    reasoning, text = "".join(r for r, _ in parts), "".join(t for _, t in parts)
    return (reasoning, text) if reasoning else split_unopened(text)


CASES = {
    "no tag": ("Hello.", (None, "Hello.")),
    "tag": ("<think>hm</think>Hello.", ("hm", "Hello.")),
    "blanks around": ("\n<think>\nhm\n</think>\n\nHello. ", ("\nhm\n", "Hello. ")),
    "empty reasoning": ("<think>\n</think>\n\nHello.", ("\n", "Hello.")),
    "nothing thought": ("<think></think>Hello.", (None, "Hello.")),
    "unclosed": ("<think>hm, let me", ("hm, let me", "")),
    "tag later": ("Say <think>x</think>", (None, "Say <think>x</think>")),
    "a second tag": ("<think>a</think>b<think>c</think>", ("a", "b<think>c</think>")),
    "a tag in the reasoning": ("<think>a<think>b</think>c", ("a<think>b", "c")),
    "less-than signs": ("<think>a < b </thin></think>x < y", ("a < b </thin>", "x < y")),
    "a tag that is cut": ("<thin", (None, "<thin")),
    "a closing tag that is cut": ("<think>a</thi", ("a</thi", "")),
    "another tag": ("<thing>a", (None, "<thing>a")),
    "only blanks": (" \n ", (None, " \n ")),
    "too many blanks": (" " * 17 + "<think>a</think>", (None, " " * 17 + "<think>a</think>")),
    "just few enough blanks": (" " * 16 + "<think>a</think>b", ("a", "b")),
    "unicode": ("<think>é漢</think>😀", ("é漢", "😀")),
    "empty": ("", (None, "")),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=list(CASES))
def test_reasoning_does_not_depend_on_the_cuts(text: str, expected: tuple[str | None, str]) -> None:
    """Whole, split in two anywhere and letter by letter, the result is the same."""
    assert split_think(text) == expected
    assert _joined(*text) == expected
    for at in range(len(text) + 1):
        assert _joined(text[:at], text[at:]) == expected, at


@pytest.mark.parametrize("asked", [None, True, "low"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hm\n</think>\n\nHello.", ("hm\n", "Hello.")),
        ("hm</think>\nHello.", ("hm", "Hello.")),
        ("hm\n</think>", ("hm\n", "")),
        ("</think>Hello.", (None, "Hello.")),
        ("I end it by `</think>`.\n</think>\n\nHello.", ("I end it by `</think>`.\n", "Hello.")),
        ("a\n</think>\nb</think>c", ("a\n", "b</think>c")),
        ("a\n</think>\nb<think>c", ("a\n", "b<think>c")),
        ("a <think>b\n</think>\nc", (None, "a <think>b\n</think>\nc")),
    ],
)
def test_the_opening_tag_may_stand_in_the_prompt(
    text: str, expected: tuple[str | None, str], asked: bool | str | None
) -> None:
    """The text before a closing tag without an opening one is reasoning."""
    assert split_unopened(text, asked) == expected


PROSE = [
    "Models end their reasoning with `</think>`, then they answer.",
    'The tag is written "</think>".',
    "Models end their reasoning with </think>, then they answer.",
    "A model writes:\n```\nhm\n</think>\nHello.\n```\n",
]


@pytest.mark.parametrize("text", PROSE)
def test_a_text_that_speaks_of_the_tag_is_all_answer(text: str) -> None:
    """A tag in quotes, inside a line or in a code block does not end reasoning."""
    assert split_think(text) == (None, text)


@pytest.mark.parametrize("text", PROSE[:2])
def test_a_tag_in_quotes_is_never_the_end_of_reasoning(text: str) -> None:
    """Also if reasoning was asked for."""
    assert split_think(text, requested=True) == (None, text)


def test_reasoning_that_was_asked_for_may_end_inside_of_a_line() -> None:
    """Then a closing tag without an opening one ends the reasoning."""
    assert split_think("a</think>b</think>c", requested=True) == ("a", "b</think>c")


@pytest.mark.parametrize("asked", [False, "none"])
@pytest.mark.parametrize("text", ["<think>a</think>b", "a\n</think>\n\nb", "<think>\n</think>b"])
def test_text_stays_text_without_reasoning(text: str, asked: bool | str) -> None:
    """The text stays as the server sent it, with its tags."""
    assert split_think(text, asked) == (None, text)


def test_character_that_begins_no_tag_is_given_at_once() -> None:
    """Text is held back only while it can still become a tag."""
    splitter = ThinkSplitter()
    assert splitter.feed("<think>a<") == ("a", "")
    assert splitter.pending == ("<", "")
    assert splitter.feed("b") == ("<b", "")
    assert splitter.feed("</think") == ("", "")
    assert splitter.feed(">x<") == ("", "x<")
    assert splitter.passes_through


def test_a_flood_of_blanks_is_given_as_it_comes() -> None:
    """The reader sees a model that loops on whitespace at once."""
    splitter = ThinkSplitter()
    given = "".join(splitter.feed(" ")[1] for _ in range(1000))
    assert len(given) == 1000
