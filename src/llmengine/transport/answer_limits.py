"""Limits on how much a server may send in one answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from math import inf
from typing import Self

from llmengine.types.errors import AnswerTooLargeError

_MEBIBYTE = 2**20
# A smaller body cannot keep the JSON parser busy for long, whatever it contains.
_SMALL = _MEBIBYTE
_UNITS = {"json_values": "values", "json_depth": "nested levels of JSON", "events": "events"}
# The JSON parser itself refuses more levels than this.
_PARSER_DEPTH = 200
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACES_AS_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The limits of one answer; None for no limit. A call ends when its answer exceeds one.

    ``wire_bytes`` is for the body as it is sent, ``body_bytes`` for the body after decompression,
    and ``json_values`` for the values in the JSON of an answer that is not streamed (counted by
    its commas and brackets). ``json_depth`` is for the levels of nested arrays and objects, in
    such an answer or in one event; the parser reads 200 at most, so a higher limit has no effect.
    ``events`` is for the number of events of a stream (in a stream of JSON lines, each line is an
    event), and ``event_bytes`` for the size of one event.
    """

    wire_bytes: int | None = 64 * _MEBIBYTE
    body_bytes: int | None = 64 * _MEBIBYTE
    json_values: int | None = 2_000_000
    json_depth: int | None = _PARSER_DEPTH
    events: int | None = 1_000_000
    event_bytes: int | None = 8 * _MEBIBYTE

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and (not number or value <= 0):
                msg = (
                    f"limit {field.name!r} is {value!r}; give a whole number above 0, or null for "
                    "no bound"
                )
                raise ValueError(msg)

    @classmethod
    def of(cls, value: object) -> Self:
        """AnswerLimits from a mapping; AnswerLimits are returned as they are."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            msg = f"limits are a mapping such as {{body_bytes: 1000000}}, not {value!r}"
            raise ValueError(msg)  # noqa: TRY004 - pydantic reports only ValueError
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(value) - set(known)):
            msg = f"unknown limit {unknown[0]!r}; the limits are {', '.join(known)}"
            raise ValueError(msg)
        return cls(**value)

    def hold(self, name: str, found: int) -> None:
        """Raise AnswerTooLargeError if `found` is more than the limit with that name allows."""
        limit = getattr(self, name)
        if limit is not None and found > limit:
            msg = (
                f"the answer has more than {limit:,} {_UNITS.get(name, 'bytes')} (limits.{name}), "
                "and was given up; raise that limit of the engine if its answers may be as large"
            )
            raise AnswerTooLargeError(msg)

    def hold_plain(self, size: int) -> None:
        """Raise AnswerTooLargeError if so many bytes of a body that is not packed are too many."""
        wire, body = self.wire_bytes, self.body_bytes  # this is asked for each piece of a stream
        if (wire is not None and size > wire) or (body is not None and size > body):
            self.hold("wire_bytes", size)
            self.hold("body_bytes", size)

    def hold_values(self, body: bytes) -> None:
        """Raise AnswerTooLargeError for JSON with too many values or levels.

        Sixty megabytes of empty objects take seconds to parse, and nothing else runs meanwhile.
        """
        if len(body) > _SMALL:
            self.hold("json_values", sum(body.count(sign) for sign in (b",", b"[", b"{")))
        self.hold_depth(body)

    @property
    def bounds_depth(self) -> bool:
        """Whether `hold_depth` can refuse JSON that the parser would read."""
        return self.json_depth is not None and self.json_depth < _PARSER_DEPTH

    def hold_depth(self, text: bytes) -> None:
        """Raise AnswerTooLargeError for JSON with too many nested levels.

        Brackets in strings do not count. Most answers have fewer brackets than the limit allows
        levels, so only some are scanned.
        """
        limit = self.json_depth
        if limit is None or not self.bounds_depth or _openings(text) <= limit:
            return
        brackets = _STRING.sub(b"", text).translate(_BRACES_AS_BRACKETS, _NOT_BRACKETS)
        for _ in range(limit):  # each turn removes the innermost level
            brackets = brackets.replace(b"[]", b"")
        self.hold("json_depth", limit + 1 if b"[]" in brackets else brackets.count(b"["))


def _openings(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


DEFAULT_LIMITS = AnswerLimits()


class EventMeter:
    """Counts the events of a stream and the bytes and levels of each event, and checks the limits.

    It sees the bytes before the decoder, because a decoder keeps an event in memory until its end.
    """

    __slots__ = (
        "_begin",
        "_counts_levels",
        "_ends",
        "_event",
        "_events",
        "_limits",
        "_most_bytes",
        "_most_events",
        "_open",
        "_overlap",
        "_sse",
        "_tail",
    )

    def __init__(self, limits: AnswerLimits, stream_type: str) -> None:
        self._sse = stream_type == "text/event-stream"
        self._limits = limits
        # Read once, because pieces are many and most are small.
        self._most_events = inf if limits.events is None else limits.events
        self._most_bytes = inf if limits.event_bytes is None else limits.event_bytes
        self._counts_levels = limits.bounds_depth
        self._begin = b"\ndata:" if self._sse else b"\n"
        self._overlap = len(self._begin) - 1
        self._ends = (b"\n\n", b"\r\n\r\n", b"\r\r") if self._sse else (b"\n",)
        self._tail = b""
        self._events = 0
        self._open = 0
        self._event = bytearray()  # what came of an event that has not ended, if levels count

    def feed(self, data: bytes) -> None:
        """Count the next piece; raises AnswerTooLargeError if a limit is exceeded."""
        seen = self._tail + data  # a mark may be split between two pieces
        self._events += seen.count(self._begin)
        if self._events > self._most_events:
            self._limits.hold("events", self._events)
        if seen.endswith(self._ends[0]):  # as nearly always: the piece is whole events
            end = len(seen)
        else:
            ends = [place + len(e) for e in self._ends if (place := seen.rfind(e)) >= 0]
            end = max(ends, default=-1)
        self._open = self._open + len(data) if end < 0 else len(seen) - end
        if self._open > self._most_bytes:
            self._limits.hold("event_bytes", self._open)
        self._tail = seen[-self._overlap :] if self._overlap else b""
        if self._counts_levels:
            self._hold_depth(data, ended=end >= 0)

    def _hold_depth(self, data: bytes, *, ended: bool) -> None:
        self._event += data
        if ended:
            events, self._event = self._event, self._event[len(self._event) - self._open :]
            lines = events.splitlines()
            if self._sse:
                lines = [line[5:] for line in lines if line.startswith(b"data:")]
            self._limits.hold_depth(b"\n".join(lines))
