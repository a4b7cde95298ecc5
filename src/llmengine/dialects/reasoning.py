"""Reasoning that a model writes into its text, between ``<think>`` and ``</think>``."""

from __future__ import annotations

from enum import Enum, auto

_OPEN = "<think>"
_CLOSE = "</think>"
_QUOTES = ("`", "'", '"', "\u201c", "\u201d", "\u2018", "\u2019", "\u00ab", "\u00bb")
_FENCE = "```"
# More blanks than this are text: a model that loops on whitespace must be seen while it does.
_MAX_BLANKS = 16


class _Where(Enum):
    START = auto()
    THINKING = auto()
    AFTER = auto()
    TEXT = auto()


class ThinkSplitter:
    """Parts a text that comes in pieces into reasoning and answer.

    Only a tag that opens the text counts, a few blanks before it aside; without its end all that
    follows is reasoning. Whitespace before the opening tag and after the closing one is dropped.
    What is held back is never longer than those blanks and one unfinished tag.
    """

    __slots__ = ("_held", "_where")

    def __init__(self) -> None:
        self._where = _Where.START
        self._held = ""

    @property
    def passes_through(self) -> bool:
        """Whether all that follows is answer, so that `feed` need not be asked any more."""
        return self._where is _Where.TEXT

    @property
    def pending(self) -> tuple[str, str]:
        """What is held back, as the (reasoning, text) that it is if nothing follows."""
        if self._where is _Where.THINKING:
            return self._held, ""
        return "", self._held

    def feed(self, piece: str) -> tuple[str, str]:
        """The (reasoning, text) that is certain once `piece` has come."""
        if self._where is _Where.TEXT:
            return "", piece
        piece = self._held + piece
        self._held = ""
        if self._where is _Where.START:
            return self._open(piece)
        if self._where is _Where.THINKING:
            return self._think(piece)
        return "", self._answer(piece)

    def finish(self) -> tuple[str, str]:
        """The (reasoning, text) that was held back; the splitter is at its end."""
        rest = self.pending
        self._held = ""
        return rest

    def _open(self, piece: str) -> tuple[str, str]:
        """Look for the opening tag at the start of the text."""
        start = piece.lstrip()
        near = len(piece) - len(start) <= _MAX_BLANKS
        if near and start.startswith(_OPEN):
            self._where = _Where.THINKING
            return self._think(start[len(_OPEN) :])
        if near and _OPEN.startswith(start):
            self._held = piece
            return "", ""
        self._where = _Where.TEXT
        return "", piece

    def _think(self, piece: str) -> tuple[str, str]:
        """Look for the closing tag, holding back what may be its beginning."""
        reasoning, tag, after = piece.partition(_CLOSE)
        if tag:
            self._where = _Where.AFTER
            return reasoning, self._answer(after)
        keep = _tag_begun(piece)
        self._held = piece[len(piece) - keep :]
        return piece[: len(piece) - keep], ""

    def _answer(self, piece: str) -> str:
        """The answer without the whitespace that parts it from the closing tag."""
        text = piece.lstrip()
        if text:
            self._where = _Where.TEXT
        return text


def _tag_begun(piece: str) -> int:
    """Length of the longest end of `piece` that begins a closing tag."""
    at = piece.rfind("<", -len(_CLOSE) + 1)
    return len(piece) - at if at >= 0 and _CLOSE.startswith(piece[at:]) else 0


def is_off(reasoning: bool | str | None) -> bool:
    """Whether a request asks for no reasoning; "none" is OpenAI's word for it."""
    return reasoning is False or reasoning == "none"


def split_think(text: str, asked: bool | str | None = None) -> tuple[str | None, str]:
    """The (reasoning, answer) of a whole text; reasoning is None where there is none.

    ``asked`` is the request's ``reasoning``; where that is off, all of the text is the answer.
    """
    if is_off(asked):
        return None, text
    if _OPEN not in text:
        return split_unopened(text, asked)
    splitter = ThinkSplitter()
    reasoning, answer = splitter.feed(text)
    more_reasoning, more_answer = splitter.finish()
    reasoning, answer = reasoning + more_reasoning, answer + more_answer
    return (reasoning, answer) if reasoning else split_unopened(answer, asked)


def split_unopened(text: str, asked: bool | str | None = None) -> tuple[str | None, str]:
    """The (reasoning, answer) of a text whose opening tag stands in the prompt.

    So do the chat templates of DeepSeek R1 and others. A stream that is read piece by piece
    cannot know of it before the closing tag comes.

    A text that speaks of the tag is not parted: a tag in quotes never counts, and unless
    reasoning was asked for, neither does one inside of a line or of a block of code. Models end
    the line after the tag.
    """
    if is_off(asked):
        return None, text
    at = text.find(_CLOSE)
    while at >= 0 and not _ends_reasoning(text, at, asked=asked is not None):
        at = text.find(_CLOSE, at + len(_CLOSE))
    if at < 0 or _OPEN in text[:at]:
        return None, text
    return text[:at] or None, text[at + len(_CLOSE) :].lstrip()


def _ends_reasoning(text: str, at: int, *, asked: bool) -> bool:
    """Whether the closing tag at that place is one, and not a word of the answer."""
    before, after = text[at - 1 : at], text[at + len(_CLOSE) :]
    if before in _QUOTES and after.startswith(_QUOTES):
        return False
    if asked or not before:
        return True
    ends_line = not after.partition("\n")[0].strip()
    return ends_line and text.count(_FENCE, 0, at) % 2 == 0
