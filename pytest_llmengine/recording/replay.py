"""The replayer: answers requests from a cassette and sends nothing to any server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from pytest_llmengine.recording.cassette import ReplayTape
from pytest_llmengine.recording.http import end_to_end
from pytest_llmengine.recording.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_llmengine.recording.cassette import RecordedAnswer
    from pytest_llmengine.recording.chunks import Rechunk
    from pytest_llmengine.recording.http import Client, Headers, Request
    from pytest_llmengine.recording.redaction import Redact

    Timing = Literal["instant", "recorded"]

# "Not Implemented" is a permanent error. OpenAI's SDKs also obey the header `x-should-retry: false`
# that is sent with it, so a miss is one call and not three.
_MISS = 501


class ReplayServer(Proxy[ReplayTape]):
    """Plays cassettes chunk by chunk, as they were recorded.

    ``timing`` is "instant" (the default), or "recorded" to keep the recorded time offsets;
    ``speed`` divides them (2.0 is twice as fast). ``rechunk`` cuts every body in another way:
    "bytes" (single bytes), "whole", "inside-characters" (within every character of several bytes),
    a chunk size, or a sequence of byte positions. ``repeats`` plays the last answer again if a
    request is made more often than it was recorded. ``redact`` must be the same as for the
    recorder. ``allowed_hosts`` and ``cors`` are as in the mock server.
    """

    def __init__(  # noqa: PLR0913 - keyword options
        self,
        *,
        timing: Timing = "instant",
        speed: float = 1.0,
        rechunk: Literal["bytes", "whole", "inside-characters"] | int | Sequence[int] | None = None,
        repeats: bool = False,
        redact: Redact | None = None,
        port: int = 0,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
    ) -> None:
        super().__init__(redact=redact, port=port, allowed_hosts=allowed_hosts, cors=cors)
        if speed <= 0 or (isinstance(rechunk, int) and rechunk <= 0):
            raise ValueError(f"speed ({speed}) and a chunk size ({rechunk}) must be above 0")
        self.timing = timing
        self._speed = speed
        self._rechunk: Rechunk | None = (
            rechunk if rechunk is None or isinstance(rechunk, int | str) else tuple(rechunk)
        )
        self._repeats = repeats

    def _open(self, path: Path) -> ReplayTape:
        return ReplayTape.load(path, self.redaction, repeats=self._repeats)

    def _close(self, tape: ReplayTape) -> None:
        pass  # there is nothing to save

    async def _answer(self, tape: ReplayTape, request: Request, client: Client) -> None:
        began = asyncio.get_running_loop().time()
        answer = tape.play(request)
        if answer is None:
            await client.error(_MISS, "cassette_miss", tape.misses[-1])
        else:
            await self._play(answer, client, began)

    async def _play(self, answer: RecordedAnswer, client: Client, began: float) -> None:
        line, head_ms = answer.timeline, answer.timeline.head_ms
        if head_ms is None:
            return  # the server closes the connection after an unfinished answer
        if self._rechunk is not None:
            line = line.rechunked(answer.body, self._rechunk)
        await self._wait(began, head_ms)
        headers = _headers(answer, keep_length=self._rechunk is None)
        await client.head(answer.status, answer.reason, headers)
        for data, at_ms in line.pieces(answer.body):
            await self._wait(began, at_ms)
            await client.chunk(data)
        if not answer.cut:
            await client.end()

    async def _wait(self, began: float, at_ms: int) -> None:
        if self.timing == "recorded":
            due = began + at_ms / 1000 / self._speed
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


def _headers(answer: RecordedAnswer, *, keep_length: bool) -> Headers:
    """The recorded headers, with a Content-Length that is correct for the body.

    The recorded value is kept if there is no whole body: after HEAD, and if the answer was cut. The
    header is left out if the body is rechunked, so that the chunks are visible on the wire.
    """
    headers = end_to_end(answer.headers)
    if answer.cut or not answer.body:
        return headers
    rest = tuple((k, v) for k, v in headers if k != "content-length")
    if keep_length and len(rest) < len(headers):
        return (*rest, ("content-length", str(len(answer.body))))
    return rest
