"""Models that fall into a loop of blanks and line breaks, which a JSON grammar lets them do."""

from __future__ import annotations

LONGEST = 64
"""Whitespace characters in a row, between the parts of a JSON text, that are still formatting.

A line break and the indentation of sixteen levels by four blanks is about as much.
"""

_BLANKS = " \t\r\n"


class WhitespaceWatch:
    """Reads an answer as it comes and sees the loop; blanks inside of strings are text."""

    __slots__ = ("_escaped", "_in_string", "_run")

    def __init__(self) -> None:
        self._run = 0
        self._in_string = False
        self._escaped = False

    def loops(self, piece: str) -> bool:
        """Whether, with this piece, more than LONGEST blanks have come in a row."""
        for character in piece:
            if self._in_string:
                self._string(character)
            elif character in _BLANKS:
                self._run += 1
                if self._run > LONGEST:
                    return True
            else:
                self._run = 0
                self._in_string = character == '"'
        return False

    def _string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False


def ends_in_loop(text: str) -> bool:
    """Whether a cut answer ends in more than LONGEST blanks."""
    return len(text) - len(text.rstrip(_BLANKS)) > LONGEST
