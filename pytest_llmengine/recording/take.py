"""An answer while it passes: its chunks, and when each came."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import h11

from pytest_llmengine.recording.interaction import Answer
from pytest_llmengine.recording.redaction import DECOMPRESSORS
from pytest_llmengine.recording.timeline import Timeline
from pytest_llmengine.recording.wire import Headers, end_to_end, is_chunked, text_headers

if TYPE_CHECKING:
    from pytest_llmengine.recording.interaction import Cut

_ENCODING = "content-encoding"


class Unrecordable(Exception):  # noqa: N818 - reads as what happened
    """An answer that cannot be redacted, and so cannot be kept."""


@dataclass(slots=True)
class Take:
    """Collects h11 events of one answer; times are in ms since it was made."""

    began: float = field(default_factory=time.perf_counter)
    status: int = 502
    reason: str = "No Answer"
    headers: Headers = ()
    head_ms: int | None = None
    complete: bool = False
    _chunked: bool = False
    _open: bool = False  # more of the last chunk is to come
    _chunks: list[bytes] = field(default_factory=list)
    _at_ms: list[int] = field(default_factory=list)

    def add(self, event: Any) -> None:
        """The head, some bytes or the end has come; other events say nothing of the answer."""
        if isinstance(event, h11.Response):
            self._head(event)
        elif isinstance(event, h11.Data):
            self._data(event)
        elif isinstance(event, h11.EndOfMessage):
            self.complete = True

    def answer(self, cut: Cut | None) -> Answer:
        """What came, its Content-Encoding taken off; raises Unrecordable."""
        sizes = tuple(len(chunk) for chunk in self._chunks)
        line = Timeline(self.head_ms, sizes, tuple(self._at_ms))
        body = b"".join(self._chunks)
        return _decoded(Answer(self.status, self.reason, self.headers, body, line, cut))

    def _head(self, event: h11.Response) -> None:
        headers = text_headers(event.headers)
        self.status, self.reason = event.status_code, event.reason.decode("latin-1")
        self.headers = end_to_end(headers)
        self.head_ms = self._now()
        self._chunked = is_chunked(headers)

    def _data(self, event: h11.Data) -> None:
        if self._open:
            self._chunks[-1] += event.data
            self._at_ms[-1] = self._now()
        else:
            self._chunks.append(bytes(event.data))
            self._at_ms.append(self._now())
        self._open = self._chunked and not event.chunk_end

    def _now(self) -> int:
        return round((time.perf_counter() - self.began) * 1000)


def _decoded(answer: Answer) -> Answer:
    """The answer in plain, as one chunk, if the server compressed it without being asked to."""
    encoding = dict(answer.headers).get(_ENCODING, "identity").lower()
    if encoding == "identity" or not answer.body:
        return answer
    decode = DECOMPRESSORS.get(encoding)
    if decode is None or answer.cut:
        raise Unrecordable(
            f"the server sent Content-Encoding {encoding!r} though identity was asked for; "
            "a compressed body cannot be redacted, so it was not recorded"
        )
    body = decode(answer.body)
    headers = tuple(
        (k, str(len(body)) if k == "content-length" else v)
        for k, v in answer.headers
        if k != _ENCODING
    )
    line = Timeline(answer.timeline.head_ms, (len(body),), answer.timeline.at_ms[-1:])
    return replace(answer, headers=headers, body=body, timeline=line)
