"""The replayer: answers requests from a cassette and sends nothing to any server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.recording.cassette import ReplayCassette
from pytest_llmengine.recording.http import end_to_end
from pytest_llmengine.recording.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.recording.cassette import RecordedAnswer
    from pytest_llmengine.recording.config import RecordingConfig
    from pytest_llmengine.recording.http import ClientConnection, Headers, Request

# "Not Implemented" is a permanent error. OpenAI's SDKs also obey the header `x-should-retry: false`
# that is sent with it, so a request without a recording is one call and not three.
_NOT_IMPLEMENTED = 501


class ReplayServer(Proxy[ReplayCassette]):
    """A server that plays cassettes chunk by chunk, as they were recorded.

    The options are those of RecordingOptions; ``redact``, ``redact_headers`` and ``redact_paths``
    must be the same as for the recorder. ``allowed_hosts`` and ``cors`` are as in the mock server.
    Raises InvalidFieldError if an option is wrong.
    """

    def _open(self, path: Path, config: RecordingConfig) -> ReplayCassette:
        return ReplayCassette.load(path, config)

    def _close(self, cassette: ReplayCassette) -> None:
        pass  # there is nothing to save

    async def _answer(
        self, cassette: ReplayCassette, request: Request, client: ClientConnection
    ) -> None:
        began = cassette.config.clock.time()
        answer = cassette.play(request)
        if answer is None:
            await client.error(_NOT_IMPLEMENTED, "cassette_miss", cassette.unhandled[-1])
        else:
            await _play(answer, client, cassette.config, began)


async def _play(
    answer: RecordedAnswer, client: ClientConnection, config: RecordingConfig, began: float
) -> None:
    line, head_ms = answer.timeline, answer.timeline.head_ms
    if head_ms is None:
        return  # the server closes the connection after an unfinished answer
    if config.rechunk is not None:
        line = line.rechunked(answer.body, config.rechunk)
    await _wait(config, began, head_ms)
    headers = _headers(answer, keep_length=config.rechunk is None)
    await client.head(answer.status, answer.reason, headers)
    for data, at_ms in line.pieces(answer.body):
        await _wait(config, began, at_ms)
        await client.chunk(data)
    if not answer.cut:
        await client.end()


async def _wait(config: RecordingConfig, began: float, at_ms: int) -> None:
    if config.timing == "recorded":
        due = began + at_ms / 1000 / config.speed
        await config.clock.sleep(max(0.0, due - config.clock.time()))


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
