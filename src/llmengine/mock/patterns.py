"""Makes strings that match a regular expression, by walks through its parse tree."""

from __future__ import annotations

import re
from itertools import chain, product
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parse  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    # The kind of a node and its value, for which the re module has no types.
    Nodes = Iterable[tuple[object, Any]]


_BRANCHES = range(4)
_GROWTH = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
_MAX_STEPS = 100_000
_TURNS = range(1, 25)
_GROWTH_OF_A_TURN = (0, 8)
# The kinds of characters alternate, so that a few neighbours have every kind.
_MIXED = "aA0_bB1-cC2@dD3!eE4#fF5$gG6.hH7 iI8+jJ9/"
_PRINTABLE = _MIXED + "".join(c for c in map(chr, range(33, 127)) if c not in _MIXED)
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


def strings_matching(pattern: str) -> Iterator[str]:
    """Yield strings that probably match the pattern, plain and short ones first.

    Lookarounds are ignored, so the caller must validate each string.
    """
    try:
        tree = sre_parse.parse(pattern)
    except (re.error, RecursionError):
        return
    plain = product(_GROWTH, _BRANCHES, (0,))
    varied = product(_GROWTH_OF_A_TURN, _BRANCHES[:2], _TURNS)
    seen: set[str] = set()
    steps = 0
    for extra, branch, turn in chain(plain, varied):
        sampler = _Sampler(branch, extra, turn)
        found = sampler.sequence(tree)
        steps += sampler.steps
        if steps > _MAX_STEPS:
            return
        if found not in seen:
            seen.add(found)
            yield found


class _Sampler:
    """Makes one string, by one way through the parse tree.

    It takes this branch of every alternative and repeats everything `extra` times more than the
    minimum. If `turn` is not 0, it takes another character for each set that it comes to.
    """

    def __init__(self, branch: int, extra: int, turn: int) -> None:
        self._branch = branch
        self._extra = extra
        self._turn = turn
        self._sets = 0
        self.steps = 0
        self._groups: dict[int, str] = {}

    def sequence(self, nodes: Nodes) -> str:
        """The string for a sequence of nodes."""
        return "".join(self._node(kind, value) for kind, value in nodes)

    def _node(self, kind: object, value: Any) -> str:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            return ""
        if kind is sre.LITERAL:
            return chr(value)
        if (members := _members(kind, value)) is not None:
            return self._pick(members)
        return self._compound(kind, value)

    def _compound(self, kind: object, value: Any) -> str:
        if kind is sre.BRANCH:
            return self.sequence(value[1][self._branch % len(value[1])])
        if kind in _REPEATS:
            least, most, inner = value
            times = min(least + self._extra, int(most), _MAX_STEPS)
            return "".join(self.sequence(inner) for _ in range(times))
        if kind is sre.SUBPATTERN:
            found = self.sequence(value[-1])
            self._groups[value[0]] = found
            return found
        if kind is sre.ATOMIC_GROUP:
            return self.sequence(value)
        if kind is sre.GROUPREF:
            return self._groups.get(value, "")
        return ""

    def _pick(self, characters: str) -> str:
        if not characters:
            return ""
        self._sets += 1
        index = self._turn + self._sets if self._turn else 0
        return characters[index % len(characters)]


def _members(kind: object, value: Any) -> str | None:
    """The characters that a node can match, or None if it does not match a single character."""
    if kind is sre.ANY:
        return _PRINTABLE
    if kind is sre.NOT_LITERAL:
        return _PRINTABLE.replace(chr(value), "")
    return _of_set(value) if kind is sre.IN else None


def _of_set(choices: list[tuple[object, Any]]) -> str:
    """The printable characters in a set, or else the first character of the set."""
    negated = choices[0][0] is sre.NEGATE
    found = "".join(c for c in _PRINTABLE if _contains(choices, c) is not negated)
    if found or negated:
        return found
    kind, value = choices[0]
    return chr(value[0]) if kind is sre.RANGE else chr(value) if kind is sre.LITERAL else " "


def _contains(choices: list[tuple[object, Any]], char: str) -> bool:
    for kind, value in choices:
        if kind is sre.LITERAL and ord(char) == value:
            return True
        if kind is sre.RANGE and value[0] <= ord(char) <= value[1]:
            return True
        if kind is sre.CATEGORY and re.fullmatch(_CATEGORIES[value], char):
            return True
    return False
