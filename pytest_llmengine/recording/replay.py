"""The replayer: answers requests from a cassette and sends nothing to any server."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from pytest_llmengine.recording import yaml_format
from pytest_llmengine.recording.cassette import Cassette, Persister, from_vcr
from pytest_llmengine.recording.errors import CassetteExpiredError, CassetteExpiredWarning
from pytest_llmengine.recording.http import end_to_end
from pytest_llmengine.recording.matchers import RequestMatcher, title
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from pytest_llmengine.recording.cassette import Exchange, RecordedAnswer
    from pytest_llmengine.recording.config import RecordingConfig
    from pytest_llmengine.recording.http import ClientConnection, Headers, Request

# A replayer has no upstream, and only path and query of the recorded addresses are compared.
_NO_ORIGIN = "http://127.0.0.1"
# Finds a request that is the same in every part, although the configuration ignores some of them.
_EXACT = RequestMatcher()


@dataclass(slots=True)
class ReplayCassette(Cassette):
    """Plays the answers to a request in the recorded order, each one once.

    If several recorded requests match, those that are the same in every part come first. With
    ``config.repeats`` the last answer is played again after all were played.
    """

    exchanges: list[Exchange] = field(default_factory=list, repr=False)
    _matcher: RequestMatcher = field(init=False, repr=False)
    _sources: dict[Path, Provenance] = field(default_factory=dict, repr=False)
    _played: set[int] = field(default_factory=set, repr=False)
    _places: dict[Hashable, list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: Path, config: RecordingConfig) -> ReplayCassette:
        """Load a file or a directory of files; raises CassetteError."""
        persister = Persister()
        requests, responses = persister.load_cassette(path, yaml_format)
        exchanges = list(zip(requests, responses, strict=True))
        provenance = Provenance.from_metadata(persister.metadata)
        cassette = cls(path, provenance, config, exchanges=exchanges)
        cassette._matcher = RequestMatcher.of(config)
        cassette._sources = persister.sources
        for place, request in enumerate(requests):
            cassette._places.setdefault(cassette._matcher.key(request), []).append(place)
        return cassette

    @property
    def expired(self) -> str:
        """Why the cassette is older than ``max_age``; "" if it is not."""
        max_age = self.config.max_age
        if max_age is None:
            return ""
        for path, provenance in self._sources.items():
            age = _age_in_days(provenance, self.config.today())
            limit = f"max_age is {max_age} days; record it again"
            if age is None:
                return f"{path} has no date, so its age is not known, and {limit}"
            if age > max_age:
                return (
                    f"{path} was recorded on {provenance.recorded_at}, {age} days ago, and {limit}"
                )
        return ""

    def check_age(self) -> None:
        """Warn or raise CassetteExpiredError if the cassette is older than ``max_age``."""
        if self.expired and self.config.expired == "fail":
            raise CassetteExpiredError(self.expired)
        if self.expired:
            warnings.warn(self.expired, CassetteExpiredWarning, stacklevel=4)

    def play(self, request: Request) -> RecordedAnswer | None:
        """Return the recorded answer; if there is none, say so in `unhandled` and return None."""
        answer = self.find(request)
        if answer is None:
            new = self.redaction.request(request, _NO_ORIGIN)
            recorded = [old for old, _ in self.exchanges]
            self.unrecorded += 1
            self.unhandled.append(self._matcher.explain(new, recorded, self.path))
        return answer

    def find(self, request: Request) -> RecordedAnswer | None:
        """Return the recorded answer, which is not played a second time, or None."""
        new = self.redaction.request(request, _NO_ORIGIN)
        places = [
            place
            for place in self._places.get(self._matcher.key(new), ())
            if self._matcher.agrees(new, self.exchanges[place][0])
        ]
        exact = places
        if self._matcher != _EXACT:
            exact = [n for n in places if _EXACT.matches(new, self.exchanges[n][0])]
        chosen = next((place for place in (*exact, *places) if place not in self._played), None)
        if chosen is None and self.config.repeats:
            chosen = next(reversed(exact or places), None)
        if chosen is None:
            return None
        self._played.add(chosen)
        return from_vcr(self.exchanges[chosen][1])

    @property
    def unused(self) -> list[str]:
        """The recorded requests that have not been made in this replay."""
        return [
            f"number {place + 1}, {title(request)}"
            for place, (request, _) in enumerate(self.exchanges)
            if place not in self._played
        ]


def _age_in_days(provenance: Provenance, today: date) -> int | None:
    try:
        return (today - date.fromisoformat(provenance.recorded_at or "")).days
    except ValueError:
        return None


# Status and code of the answer to a request without a recording. "Not Implemented" is a permanent
# error. OpenAI's SDKs also obey the header `x-should-retry: false` that is sent with it, so such a
# request is one call and not three.
MISS = (501, "cassette_miss")


class ReplayServer(Proxy[ReplayCassette]):
    """A server that plays cassettes chunk by chunk, as they were recorded.

    The options are those of RecordingOptions; ``redact``, ``redact_headers`` and ``redact_paths``
    must be the same as for the recorder. ``allowed_hosts`` and ``cors`` are as in the mock server.
    Raises InvalidFieldError if an option is wrong.
    """

    def _open(self, path: Path, config: RecordingConfig) -> ReplayCassette:
        cassette = ReplayCassette.load(path, config)
        cassette.check_age()
        return cassette

    def _close(self, cassette: ReplayCassette) -> None:
        pass  # there is nothing to save

    async def _answer(
        self, cassette: ReplayCassette, request: Request, client: ClientConnection
    ) -> None:
        began = cassette.config.clock.time()
        answer = cassette.play(request)
        if answer is None:
            await client.error(*MISS, cassette.unhandled[-1])
        else:
            await self._before_playing(cassette, request, answer)
            await play_answer(answer, client, cassette.config, began)

    async def _before_playing(
        self, cassette: ReplayCassette, request: Request, answer: RecordedAnswer
    ) -> None:
        """Called with each recorded answer before the client gets it."""


async def play_answer(
    answer: RecordedAnswer, client: ClientConnection, config: RecordingConfig, began: float
) -> None:
    """Send a recorded answer to a client; `began` is when its request arrived."""
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
