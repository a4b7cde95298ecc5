"""An answer as a value, and as the dictionary that vcrpy keeps.

What vcrpy has no place for goes under one key of our own in the response, which vcrpy passes on
and does not read, so that the body is there as a whole for it:

    llmengine:
      head_ms: 12              # when the headers had come
      sizes: [223, 190]        # bytes of each chunk
      at_ms: [41, 52]          # when each was complete
      cut: upstream            # who closed the connection before the end, or absent
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_llmengine.recording.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmengine.recording.redaction import Redaction
    from pytest_llmengine.recording.wire import Headers

    Cut = Literal["upstream", "client"]

KEY = "llmengine"
_STATUSES = range(100, 1000)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``cut`` names who closed before the end, ``upstream`` or ``client``.

    A connection that was closed before a status line has ``timeline.head_ms`` None, and status
    502, which is what a reader that does not know our key is given.
    """

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    timeline: Timeline
    cut: Cut | None = None


def redacted(answer: Answer, redaction: Redaction) -> Answer:
    """The answer as it may be kept; a Content-Length follows the body."""
    body = redaction.body(answer.body, dict(answer.headers).get("content-type", ""))
    grown = len(body) - len(answer.body)
    headers = tuple(
        (name, str(int(value) + grown) if name == "content-length" else value)
        for name, value in redaction.response_headers(answer.headers)
    )
    timeline = answer.timeline.moved(answer.body, body)
    return Answer(answer.status, answer.reason, headers, body, timeline, answer.cut)


def to_vcr(answer: Answer) -> dict[str, Any]:
    """The response dictionary of a cassette."""
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    return {
        "status": {"code": answer.status, "message": answer.reason},
        "headers": headers,
        "body": {"string": answer.body},
        KEY: _extra(answer),
    }


def from_vcr(response: Mapping[str, Any]) -> Answer:
    """The answer in a cassette's response, ours or one that vcrpy recorded.

    Raises ValueError when the chunk sizes do not add up to the body, or a value is of a wrong type.
    """
    body = response["body"]["string"] or b""
    code, reason = response["status"]["code"], response["status"]["message"] or ""
    _expect(isinstance(body, bytes), "the body is not a text")
    _expect(type(code) is int and code in _STATUSES, f"the status {code!r} is not one of HTTP's")
    _expect(isinstance(reason, str), f"the status message {reason!r} is not a text")
    headers = tuple(
        (name.lower(), value)
        for name, values in response["headers"].items()
        for value in ([values] if isinstance(values, str) else values)
    )
    _expect(
        all(isinstance(v, str) for _, v in headers),
        "a header is neither a text nor a list of texts",
    )
    extra = response.get(KEY)
    return Answer(
        code,
        reason,
        headers,
        body,
        Timeline.whole(body) if extra is None else _timeline(extra, body),
        (extra or {}).get("cut"),
    )


def _extra(answer: Answer) -> dict[str, Any]:
    line = answer.timeline
    extra: dict[str, Any] = {} if line.head_ms is None else {"head_ms": line.head_ms}
    extra |= {"sizes": list(line.sizes), "at_ms": list(line.at_ms)}
    return extra if answer.cut is None else extra | {"cut": answer.cut}


def _expect(condition: bool, wrong: str) -> None:
    if not condition:
        raise ValueError(wrong)


def _timeline(extra: Mapping[str, Any], body: bytes) -> Timeline:
    sizes, at_ms = tuple(extra.get("sizes", ())), tuple(extra.get("at_ms", ()))
    times = (extra.get("head_ms") or 0, *sizes, *at_ms)
    _expect(
        all(type(n) is int and n >= 0 for n in times), "head_ms, sizes and at_ms are whole numbers"
    )
    if sum(sizes) != len(body) or len(sizes) != len(at_ms):
        raise ValueError(
            f"the body has {len(body)} bytes, but its chunk sizes add up to {sum(sizes)} "
            f"({len(sizes)} sizes, {len(at_ms)} times); after editing a body by hand, "
            f"delete the {KEY!r} entry beside it to have it sent in one piece"
        )
    return Timeline(extra.get("head_ms"), sizes, at_ms)
