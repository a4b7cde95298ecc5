"""JSON paths: find values in JSON texts, to mask them, and in JSON values, to leave them out.

A path is written as in RFC 9535, without filters, slices and negative indexes: ``$.user``,
``$.messages[0].content``, ``$.tools[*]['x-id']``, ``$..timestamp``. ``$.`` may be left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SEGMENT = re.compile(
    r"""(?P<deep>\.\.)?\.?                      # .. also looks into everything below
    (?: (?P<name> [^\s.\[\]'"*$]+ )             # name
      | \[ \s* (?P<quote>['"]) (?P<quoted> .*? ) (?P=quote) \s* \]   # ['name']
      | \[ \s* (?P<index> \d+ ) \s* \]          # [0]
      | (?P<all> \* | \[ \s* \* \s* \] )        # * or [*]
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path: to a member, to an element, or to all (None); ``deep`` from any depth."""

    key: str | int | None
    deep: bool = False


@dataclass(frozen=True, slots=True)
class JSONPath:
    """A path to values in a JSON document."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> JSONPath:
        """Parse a path; raises ValueError that shows the part that is not understood."""
        at, steps = 1 if text.startswith("$") else 0, []
        while at < len(text):
            found = _SEGMENT.match(text, at)
            if found is None:
                raise ValueError(
                    f"{text!r} is not a JSON path from {text[at:]!r} on; write it like "
                    "$.messages[0].content, $.tools[*].name or $..timestamp"
                )
            steps.append(_Step(_key(found), found["deep"] is not None))
            at = found.end()
        if not steps:
            raise ValueError(f"{text!r} names no value; write a JSON path like $.user")
        return cls(text, tuple(steps))


def _key(found: re.Match[str]) -> str | int | None:
    if found["all"]:
        return None
    if found["index"]:
        return int(found["index"])
    return found["name"] if found["name"] is not None else found["quoted"]


# The steps that are left of each path at one place in a document; () means that it is matched.
_Left = frozenset[tuple[_Step, ...]]


def _all(paths: Iterable[JSONPath]) -> _Left:
    return frozenset(path.steps for path in paths)


def _below(left: _Left, key: str | int) -> _Left:
    """The steps that are left at the member or element `key` of this place."""
    taken = {steps[1:] for steps in left if steps and steps[0].key in {None, key}}
    return frozenset(taken | {steps for steps in left if steps and steps[0].deep})


def without(value: Any, paths: Iterable[JSONPath]) -> Any:
    """A copy of a JSON value without the members and elements at these paths."""
    return _without(value, _all(paths))


def _without(value: Any, left: _Left) -> Any:
    if isinstance(value, dict):
        members = ((key, item, _below(left, key)) for key, item in value.items())
        return {key: _without(item, below) for key, item, below in members if () not in below}
    if isinstance(value, list):
        elements = ((item, _below(left, place)) for place, item in enumerate(value))
        return [_without(item, below) for item, below in elements if () not in below]
    return value


def replaced(value: Any, paths: Iterable[JSONPath], change: Callable[[Any], Any]) -> Any:
    """A copy of a JSON value in which each member and element at these paths is changed."""
    return _replaced(value, _all(paths), change)


def _replaced(value: Any, left: _Left, change: Callable[[Any], Any]) -> Any:
    if () in left:
        return change(value)
    if isinstance(value, dict):
        return {key: _replaced(item, _below(left, key), change) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, _below(left, n), change) for n, item in enumerate(value)]
    return value


# The start of a JSON document: at the start of a line or of an event, or right after another one.
_DOCUMENT = re.compile(r"(?:^(?:data:)?|(?<=[}\]]))[ \t]*(?=[{\[])", re.MULTILINE)
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


def masked(text: str, paths: Iterable[JSONPath], mask: str) -> str:
    """The text with `mask` in place of each value at these paths; everything else stays as it is.

    The text is a JSON document, or lines or server-sent events with one each. If a document is cut
    off within such a value, the rest of the text is masked.
    """
    left, end = _all(paths), 0
    parts: list[str] = []
    for start, stop in _spans(text, left):
        parts += text[end:start], mask
        end = stop
    return "".join([*parts, text[end:]])


def values_at(text: str, paths: Iterable[JSONPath]) -> list[str]:
    """The values at these paths as they stand in the text, in their order; see `masked`."""
    return [text[start:stop] for start, stop in _spans(text, _all(paths))]


def _spans(text: str, left: _Left) -> Iterator[tuple[int, int]]:
    at = 0
    while left and (found := _DOCUMENT.search(text, at)) is not None:
        scan = _Scan(text)
        try:
            at = scan.value(found.end(), left)
        except ValueError:  # it is not JSON, or it is cut off
            at = found.end() + 1
        yield from scan.spans
        at = max([at, *(end for _, end in scan.spans)])


class _Scan:
    """A walk over one JSON document in a text, which collects where the matched values stand."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans: list[tuple[int, int]] = []

    def value(self, at: int, left: _Left) -> int:
        """The end of the value that starts at `at`; raises ValueError if it has none."""
        if () in left:
            end = self._end(at)
            self.spans.append((at, len(self.text) if end is None else end))
            if end is None:
                raise ValueError("cut off")
            return end
        if left and self.text.startswith("{", at):
            return self._members(at + 1, left)
        if left and self.text.startswith("[", at):
            return self._elements(at + 1, left)
        return _decode(self.text, at)[1]

    def _members(self, at: int, left: _Left) -> int:
        at = self._space(at)
        if self.text.startswith("}", at):
            return at + 1
        while True:
            self._expect('"', at)
            name, at = _decode(self.text, at)
            at = self._expect(":", self._space(at))
            at = self._space(self.value(self._space(at), _below(left, name)))
            if self.text.startswith("}", at):
                return at + 1
            at = self._space(self._expect(",", at))

    def _elements(self, at: int, left: _Left) -> int:
        at, place = self._space(at), 0
        if self.text.startswith("]", at):
            return at + 1
        while True:
            at = self._space(self.value(at, _below(left, place)))
            if self.text.startswith("]", at):
                return at + 1
            at, place = self._space(self._expect(",", at)), place + 1

    def _end(self, at: int) -> int | None:
        try:
            return _decode(self.text, at)[1]
        except ValueError:
            return None

    def _expect(self, character: str, at: int) -> int:
        if not self.text.startswith(character, at):
            raise ValueError(f"no {character} at {at}")
        return at + 1

    def _space(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        assert found is not None  # it may be empty
        return found.end()
