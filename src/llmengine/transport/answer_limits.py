"""Limits on how much a server may send in one answer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from llmengine.types.errors import AnswerTooLargeError

_MEBIBYTE = 2**20
# A smaller body cannot keep the JSON parser busy for long, whatever it contains.
_SMALL = _MEBIBYTE
_UNITS = {"json_values": "values", "events": "events"}


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The limits of one answer; None for no limit. A call ends when its answer exceeds one.

    ``wire_bytes`` is for the body as it is sent, ``body_bytes`` for the body after decompression,
    and ``json_values`` for the values in the JSON of an answer that is not streamed (counted by
    its commas and brackets). ``events`` is for the number of events of a stream (in a stream of
    JSON lines, each line is an event), and ``event_bytes`` for the size of one event.
    """

    wire_bytes: int | None = 64 * _MEBIBYTE
    body_bytes: int | None = 64 * _MEBIBYTE
    json_values: int | None = 2_000_000
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

    def hold_values(self, body: bytes) -> None:
        """Raise AnswerTooLargeError for JSON that would keep the parser busy for long.

        Sixty megabytes of empty objects take seconds to parse, and nothing else runs meanwhile.
        """
        if len(body) > _SMALL:
            self.hold("json_values", sum(body.count(sign) for sign in (b",", b"[", b"{")))


DEFAULT_LIMITS = AnswerLimits()


class EventMeter:
    """Counts the events of a stream and the bytes of each event, and checks both limits.

    It sees the bytes before the decoder, because a decoder keeps an event in memory until its end.
    """

    __slots__ = ("_begin", "_ends", "_events", "_limits", "_open", "_tail")

    def __init__(self, limits: AnswerLimits, stream_type: str) -> None:
        sse = stream_type == "text/event-stream"
        self._limits = limits
        self._begin = b"\ndata:" if sse else b"\n"
        self._ends = (b"\n\n", b"\r\n\r\n", b"\r\r") if sse else (b"\n",)
        self._tail = b""
        self._events = 0
        self._open = 0

    def feed(self, data: bytes) -> None:
        """Count the next piece; raises AnswerTooLargeError if a limit is exceeded."""
        seen = self._tail + data  # a mark may be split between two pieces
        self._events += seen.count(self._begin)
        self._limits.hold("events", self._events)
        end = max([place + len(e) for e in self._ends if (place := seen.rfind(e)) >= 0], default=-1)
        self._open = self._open + len(data) if end < 0 else len(seen) - end
        self._limits.hold("event_bytes", self._open)
        overlap = len(self._begin) - 1
        self._tail = seen[-overlap:] if overlap else b""
