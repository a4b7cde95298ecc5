"""The chunks of a body: where it was cut, and when each chunk arrived."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


Rechunk = Literal["bytes", "whole", "inside-characters"] | int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The size of each chunk in bytes, and when it was complete, in ms after the request was sent.

    ``head_ms`` is when the status line and the headers had arrived; None if they never did.
    """

    head_ms: int | None = 0
    sizes: tuple[int, ...] = ()
    at_ms: tuple[int, ...] = ()

    @classmethod
    def whole(cls, body: bytes) -> Timeline:
        """The timeline of a body that arrived at once."""
        return cls(0, (len(body),), (0,)) if body else cls()

    def pieces(self, body: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield the chunks of `body` with their times."""
        ends = [0, *accumulate(self.sizes)]
        for (start, end), at in zip(pairwise(ends), self.at_ms, strict=True):
            yield body[start:end], at

    def moved(self, old: bytes, new: bytes) -> Timeline:
        """Move the boundaries to where they belong in a body that was edited from `old` to `new`.

        A boundary inside an edited part moves to the end of that part. Chunks that become empty
        are dropped.
        """
        if old == new:
            return self
        edits = list(_edits(old, new))
        ends = [_moved(end, edits) for end in accumulate(self.sizes)]
        kept = [
            (end - start, at)
            for (start, end), at in zip(pairwise([0, *ends]), self.at_ms, strict=True)
            if end > start
        ]
        return Timeline(self.head_ms, tuple(s for s, _ in kept), tuple(a for _, a in kept))

    def rechunked(self, body: bytes, how: Rechunk) -> Timeline:
        """Cut the body in another way; the time of a piece is when its last byte arrived."""
        cuts = sorted({c for c in _cuts(body, how) if 0 < c < len(body)})
        edges = [0, *cuts, len(body)] if body else [0]
        ends = list(accumulate(self.sizes))
        sizes = tuple(b - a for a, b in pairwise(edges))
        at_ms = tuple(self.at_ms[bisect_left(ends, edge)] for edge in edges[1:])
        return Timeline(self.head_ms, sizes, at_ms)


def _cuts(body: bytes, how: Rechunk) -> Sequence[int]:
    if how == "whole":
        return ()
    if how == "bytes":
        return range(1, len(body))
    if how == "inside-characters":
        # In UTF-8 a lead byte of 0xC0 or more is followed by at least one more byte.
        return [i + 1 for i, byte in enumerate(body) if byte >= 0xC0]  # noqa: PLR2004 - UTF-8
    if isinstance(how, int):
        return range(how, len(body), how)
    return how


@dataclass(frozen=True, slots=True)
class _Edit:
    """An edited part, as start and end in the old body and in the new one."""

    start: int
    end: int
    new_start: int
    new_end: int

    def trimmed(self, old: bytes, new: bytes) -> _Edit:
        """The same edit without the bytes that both parts begin or end with."""
        before, after = old[self.start : self.end], new[self.new_start : self.new_end]
        head = _shared(before, after)
        tail = _shared(before[head:][::-1], after[head:][::-1])
        return _Edit(self.start + head, self.end - tail, self.new_start + head, self.new_end - tail)


def _shared(a: bytes, b: bytes) -> int:
    """The length of the common prefix."""
    differing = (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(differing, min(len(a), len(b)))


def _moved(position: int, edits: Sequence[_Edit]) -> int:
    shift = 0
    for edit in edits:
        if position <= edit.start:
            break
        if position <= edit.end:
            return edit.new_end
        shift = edit.new_end - edit.end
    return position + shift


def _edits(old: bytes, new: bytes) -> Iterator[_Edit]:
    """Yield the edited parts, found line by line: a diff by bytes is slow for long bodies."""
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    a_ends, b_ends = [0, *accumulate(map(len, a))], [0, *accumulate(map(len, b))]
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        spans = [(i1, i2, j1, j2)]
        if i2 - i1 == j2 - j1:  # each line stays one line
            spans = [(i1 + n, i1 + n + 1, j1 + n, j1 + n + 1) for n in range(i2 - i1)]
        for i, i_end, j, j_end in spans:
            edit = _Edit(a_ends[i], a_ends[i_end], b_ends[j], b_ends[j_end])
            yield edit.trimmed(old, new)
