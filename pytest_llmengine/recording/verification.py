"""Verification: the requests of cassettes are sent to a live server, and the answers compared.

`verify` sends what is in a file. `VerifyServer` is a replayer for tests: it plays the recorded
answer to each request, and sends the same request to the live server to compare its answer.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11

from llmengine.types.secrets import MASK
from pytest_llmengine.recording.answer_value import answer_value, parsed
from pytest_llmengine.recording.cassette import redacted
from pytest_llmengine.recording.cassette_file import RecordedExchange
from pytest_llmengine.recording.comparison import AnswerTier, Comparison, compare
from pytest_llmengine.recording.http import Request
from pytest_llmengine.recording.record import (
    AnswerBuilder,
    Unrecordable,
    Upstream,
    UpstreamUnreachable,
)
from pytest_llmengine.recording.redaction import Redaction
from pytest_llmengine.recording.replay import ReplayServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Unpack

    from pytest_llmengine.recording.cassette import CutBy, RecordedAnswer
    from pytest_llmengine.recording.cassette_file import CassetteFile
    from pytest_llmengine.recording.config import RecordingConfig, RecordingOptions
    from pytest_llmengine.recording.replay import ReplayCassette

# An id that a later request may name, such as that of a response or a file. Shorter ones may be
# words of the text.
_MIN_ID_LENGTH = 12
_REFUSED = frozenset({401, 403})
# Anthropic's API requires a header that is not recorded.
_MESSAGES, _MESSAGES_HEADERS = "/messages", {"anthropic-version": "2023-06-01"}


class NotSent(Exception):  # noqa: N818 - reads as what happened
    """A recorded request that cannot be sent as it was."""


@dataclass(slots=True)
class LiveServer:
    """A live server that is asked what was recorded.

    ``model`` replaces the recorded model if it is given. ``seconds`` limit each answer. ``ids`` are
    the ids in recorded answers, with those that the live server has given instead: a request that
    continues an earlier answer names it by its id.
    """

    upstream: Upstream
    model: str | None = None
    seconds: float = 120.0
    ids: dict[str, str] = field(default_factory=dict)

    async def compare(
        self,
        path: object,
        exchange: RecordedExchange,
        request: Request,
        config: RecordingConfig,
    ) -> Comparison:
        """Send the request of a recorded exchange, and compare the answers.

        If there is no live answer, the two are different.
        """
        try:
            async with asyncio.timeout(self.seconds):
                answer = redacted(
                    await self._answer(self._changed(request), config), Redaction.of(config)
                )
        except (UpstreamUnreachable, Unrecordable) as error:
            return Comparison.without_answer(path, exchange, str(error))
        except TimeoutError:
            reason = f"there was no whole answer after {self.seconds:g} s"
            return Comparison.without_answer(path, exchange, reason)
        for old, new in zip(_ids(exchange.answer), _ids(answer), strict=False):
            self.ids[old] = new
        return compare(path, exchange, answer, config.volatile_paths)

    async def _answer(self, request: Request, config: RecordingConfig) -> RecordedAnswer:
        builder = AnswerBuilder(config.clock)
        connection = await self.upstream.open()
        cut: CutBy | None = None
        try:
            with suppress(ConnectionError):  # there may be an answer already
                await self.upstream.send(connection, request)
            while not builder.complete:
                builder.add(await connection.receive())
        except (OSError, h11.RemoteProtocolError):
            cut = "upstream"
        finally:
            connection.close()
        return builder.build(cut)

    def _changed(self, request: Request) -> Request:
        """The request with the ids and the model that this server knows."""
        target, body = request.target, request.body
        for old, new in self.ids.items():
            target, body = target.replace(old, new), body.replace(old.encode(), new.encode())
        value = parsed(body)
        if self.model is not None and isinstance(value, dict) and "model" in value:
            body = json.dumps({**value, "model": self.model}, ensure_ascii=False).encode()
        return Request(request.method, target, request.headers, body, request.chunked)


def _ids(answer: RecordedAnswer) -> Iterator[str]:
    """The id of an answer, or of the answer that the events of a stream are about."""
    value = answer_value(answer)
    for event in value.get("events", [value]) if isinstance(value, dict) else ():
        inner = event.get("response", event) if isinstance(event, dict) else None
        found = inner.get("id") if isinstance(inner, dict) else None
        if isinstance(found, str) and len(found) >= _MIN_ID_LENGTH:
            yield found
            return


@dataclass(frozen=True, slots=True)
class Resender:
    """Makes requests from recorded ones, which hold neither keys nor most headers.

    ``headers`` are those of an engine, with its key, and ``query`` is that of its address.
    """

    headers: Mapping[str, str]
    query: str = ""

    def request(self, exchange: RecordedExchange) -> Request:
        """The request of an exchange; raises NotSent if it cannot be sent as it was."""
        recorded = exchange.request
        origin = f"{recorded.scheme}://{recorded.parsed_uri.netloc}"
        target = self._filled(recorded.uri.removeprefix(origin) or "/")
        body: bytes = recorded.body or b""
        if MASK in target:
            raise NotSent("a part of its address was redacted, so it cannot be sent")
        if MASK.encode() in body:
            raise NotSent("a part of its body was redacted, so it cannot be sent")
        if exchange.answer.cut == "client":
            raise NotSent("its client left before the end, so the answer was not recorded")
        if exchange.answer.status in _REFUSED:
            raise NotSent(
                f"it was answered {exchange.answer.status}, and the key that it was sent with is "
                "not recorded"
            )
        kept = {name.lower(): value for name, value in recorded.headers.items()}
        if _MESSAGES in target:
            kept |= _MESSAGES_HEADERS
        own = {name.lower(): value for name, value in self.headers.items()}
        return Request(recorded.method, target, tuple({**kept, **own}.items()), body)

    def _filled(self, target: str) -> str:
        """The target with the redacted parameters of the engine's own address filled in."""
        for pair in filter(None, self.query.split("&")):
            target = target.replace(f"{pair.partition('=')[0]}={MASK}", pair)
        return target


async def verify(
    file: CassetteFile,
    live: LiveServer,
    resender: Resender,
    config: RecordingConfig,
) -> AsyncIterator[Comparison]:
    """Send the requests of a cassette one after the other, and yield the comparisons.

    `config` says which parts of answers are volatile.
    """
    for exchange in file.exchanges:
        try:
            request = resender.request(exchange)
        except NotSent as error:
            yield Comparison.not_sent(file.path, exchange, str(error))
            continue
        yield await live.compare(file.path, exchange, request, config)


class VerifyServer(ReplayServer):
    """A replayer that also sends each request to the live server `upstream`, with its `model`.

    The client gets the recorded answer, so that a test runs as in a replay. A comparison that is as
    bad as `fail_on` is among the ``unhandled`` of its cassette.
    """

    def __init__(
        self,
        upstream: str,
        *,
        model: str | None = None,
        fail_on: AnswerTier = AnswerTier.DIFFERENT,
        **options: Unpack[RecordingOptions],
    ) -> None:
        super().__init__(**options)
        self._comparisons: list[Comparison] = []
        self._asked = 0
        self._fail_on = fail_on
        self._live = LiveServer(Upstream.parse(upstream), model)

    def take_comparisons(self) -> list[Comparison]:
        """The comparisons since the last call."""
        taken, self._comparisons, self._asked = self._comparisons, [], 0
        return taken

    async def _before_playing(
        self, cassette: ReplayCassette, request: Request, answer: RecordedAnswer
    ) -> None:
        recorded = cassette.redaction.request(request, self._live.upstream.recorded_url)
        self._asked += 1
        exchange = RecordedExchange(self._asked, recorded, answer)
        found = await self._live.compare(cassette.path, exchange, request, cassette.config)
        self._comparisons.append(found)
        if found.is_as_bad_as(self._fail_on):
            cassette.unhandled.append(found.describe())
