"""Decoders that split the bytes of a stream into server-sent events or lines of JSON.

The bytes may arrive in pieces of any size.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SSEDecoder:
    """Joins pieces to lines and lines to server-sent events; each byte is looked at once.

    Only the ``data`` of events is kept, because the chat formats put everything there.

    The decoder follows the event stream format of the HTML standard (section "Server-sent
    events"), with one exception: an event whose closing blank line is missing is not dropped,
    but returned by `finish`.
    """

    __slots__ = ("_after_cr", "_at_start", "_data", "_is_between_events", "_tail", "stray")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._data: list[bytes] = []
        self._after_cr = False
        self._at_start = True
        self._is_between_events = False  # so that no state has to be looked at
        self.stray: bytes | None = None
        """The first line that is not a field of the format, such as a line of HTML, or None."""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes, with its lines joined by line feeds."""
        # Most pieces of a stream are one whole event after whole events.
        if (
            self._is_between_events
            and data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"\n")
            and b"\r" not in data
        ):
            return [data[6:-2]]
        self._is_between_events = False
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        head, *rest = data.split(b"\n")
        if not rest:
            self._tail += head
            return []
        if self._tail:
            head = bytes(self._tail) + head
        self._tail = bytearray(rest.pop())
        if self._at_start:
            self._at_start = False
            head = head.removeprefix(_BOM)
        events: list[bytes] = []
        self._line(head, events)
        for line in rest:
            self._line(line, events)
        self._is_between_events = not (self._tail or self._data or self._after_cr)
        return events

    def finish(self) -> list[bytes]:
        """The data of the last event, if the body ended before the event's blank line."""
        return self.feed(b"\n\n") if self._tail or self._data else []

    def _with_line_feeds(self, data: bytes) -> bytes:
        """`data` with every line end as LF.

        A CR at the end of `data` ends its line at once. If the next piece begins with the LF of
        the same line end, that LF is removed.
        """
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data: "):
            self._data.append(line[6:])
        elif not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
        elif line.startswith(b"data:"):
            self._data.append(line[5:])
        elif line == b"data":
            self._data.append(b"")
        elif self.stray is None and not _may_be_field(line):
            self.stray = line


def _may_be_field(line: bytes) -> bool:
    """Whether a line is a field, a comment, or either of them cut by the end of the body."""
    name = line.split(b":", 1)[0]
    return any(field.startswith(name) for field in (b"data", b"event", b"id", b"retry"))


class NDJSONDecoder:
    """Joins pieces to lines of newline-delimited JSON; each byte is looked at once."""

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
