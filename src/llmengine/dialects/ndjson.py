"""Newline-delimited JSON, from bytes that may be cut anywhere."""

from __future__ import annotations


class NDJSONDecoder:
    """Joins pieces to lines; looks at every byte once."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without blank ones."""
        head, *rest = data.split(b"\n")
        if not rest:
            self._tail += head
            return []
        if self._tail:
            head = bytes(self._tail) + head
        self._tail = bytearray(rest.pop())
        return [line for line in (head, *rest) if line.strip()]

    def finish(self) -> list[bytes]:
        """The last line, if the body ended before its line feed."""
        return self.feed(b"\n") if self._tail else []
