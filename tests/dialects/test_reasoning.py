"""Reasoning between ``<think>`` tags, however the text is cut."""

from __future__ import annotations

import random

import pytest

from llmengine.dialects.reasoning import ThinkSplitter, split_think, split_unopened


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
    """Whole, at every two-piece cut and letter by letter, a text is parted alike."""
    assert split_think(text) == expected
    assert _joined(*text) == expected
    for at in range(len(text) + 1):
        assert _joined(text[:at], text[at:]) == expected, at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hm\n</think>\n\nHello.", ("hm\n", "Hello.")),
        ("</think>Hello.", (None, "Hello.")),
        ("a</think>b</think>c", ("a", "b</think>c")),
        ("a</think>b<think>c", ("a", "b<think>c")),
        ("a <think>b</think>c", (None, "a <think>b</think>c")),
    ],
)
def test_the_opening_tag_may_stand_in_the_prompt(
    text: str, expected: tuple[str | None, str]
) -> None:
    """What comes before a closing tag that nothing opened is reasoning."""
    assert split_unopened(text) == expected


def test_any_mixture_of_tag_fragments_is_parted_alike() -> None:
    """Random texts made of fragments of tags, cut at random, agree with the whole text."""
    chance = random.Random(7)
    fragments = ["<", ">", "/", "think", "<think>", "</think>", " ", "\n", "a", "<th", "</t"]
    for _ in range(2000):
        text = "".join(chance.choices(fragments, k=chance.randrange(8)))
        cuts = sorted(chance.choices(range(len(text) + 1), k=3))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert _joined(*pieces) == split_think(text), pieces


def test_a_sign_that_is_no_tag_is_given_at_once() -> None:
    """Text is held back only while it can still become a tag."""
    splitter = ThinkSplitter()
    assert splitter.feed("<think>a<") == ("a", "")
    assert splitter.pending == ("<", "")
    assert splitter.feed("b") == ("<b", "")
    assert splitter.feed("</think") == ("", "")
    assert splitter.feed(">x<") == ("", "x<")
    assert splitter.passes_through


def test_a_flood_of_blanks_is_given_as_it_comes() -> None:
    """A model that loops on whitespace is seen while it does."""
    splitter = ThinkSplitter()
    given = "".join(splitter.feed(" ")[1] for _ in range(1000))
    assert len(given) == 1000
