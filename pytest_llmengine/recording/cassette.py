"""Cassettes: recorded exchanges, in memory and in vcrpy's YAML files.

vcrpy keeps only the whole body of an answer. Its chunks and times are kept under one key of our own
in the response, which vcrpy passes on and does not read::

    llmengine:
      head_ms: 12              # when the headers had come
      sizes: [223, 190]        # bytes of each chunk
      at_ms: [41, 52]          # when each was complete
      cut: upstream            # who closed the connection before the end, or absent
"""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from vcr.cassette import Cassette as VcrCassette
from vcr.errors import UnhandledHTTPRequestError
from vcr.record_mode import RecordMode
from vcr.serialize import deserialize, serialize

from pytest_llmengine.recording import yaml_format
from pytest_llmengine.recording.chunks import Timeline
from pytest_llmengine.recording.errors import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.matchers import RequestMatcher, pretty, title
from pytest_llmengine.recording.packed import (
    is_packed,
    place_of,
    read_recording,
    recordings_in,
)
from pytest_llmengine.recording.provenance import KEY, Provenance
from pytest_llmengine.recording.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.config import RecordingConfig
    from pytest_llmengine.recording.http import Headers, Request

    CutBy = Literal["upstream", "client"]
    Loaded = tuple[list[VcrRequest], list[dict[str, Any]], dict[str, Any]]
    Exchanges = tuple[list[VcrRequest], list[dict[str, Any]]]


EXCHANGE_KEY = "llmengine"
_STATUSES = range(100, 1000)


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """The answer to a recorded request.

    ``cut`` says who closed the connection before the end, ``upstream`` or ``client``; None if the
    answer is complete. If the connection was closed before the status line, ``timeline.head_ms``
    is None and the status is 502; readers that do not know our key see this status.
    """

    status: int
    reason: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    timeline: Timeline
    cut: CutBy | None = None


def redacted(answer: RecordedAnswer, redaction: Redaction) -> RecordedAnswer:
    """The answer without secrets; its Content-Length is that of the redacted body."""
    body = redaction.body(answer.body, dict(answer.headers).get("content-type", ""))
    grown = len(body) - len(answer.body)
    headers = tuple(
        (name, str(int(value) + grown) if name == "content-length" else value)
        for name, value in redaction.response_headers(answer.headers)
    )
    timeline = answer.timeline.moved(answer.body, body)
    return RecordedAnswer(answer.status, answer.reason, headers, body, timeline, answer.cut)


def to_vcr(answer: RecordedAnswer) -> dict[str, Any]:
    """The answer as a response dictionary of vcrpy's format."""
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        headers.setdefault(name, []).append(value)
    return {
        "status": {"code": answer.status, "message": answer.reason},
        "headers": headers,
        "body": {"string": answer.body},
        EXCHANGE_KEY: _extra(answer),
    }


def from_vcr(response: Mapping[str, Any]) -> RecordedAnswer:
    """The answer in a cassette's response, recorded by us or by vcrpy.

    Raises ValueError if the chunk sizes do not add up to the body or a value has a wrong type.
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
    extra = response.get(EXCHANGE_KEY)
    return RecordedAnswer(
        code,
        reason,
        headers,
        body,
        Timeline.whole(body) if extra is None else _timeline(extra, body),
        (extra or {}).get("cut"),
    )


def _extra(answer: RecordedAnswer) -> dict[str, Any]:
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
            f"delete the {EXCHANGE_KEY!r} entry beside it to have it sent in one piece"
        )
    return Timeline(extra.get("head_ms"), sizes, at_ms)


class Persister:
    """vcrpy's persister interface for one file, or for all files of a folder as one cassette.

    The folder may be packed.

    Unlike vcrpy's own, it never treats an unreadable file as an empty one. ``metadata`` is the
    metadata of the file, or of the first of several files; vcrpy before 9.4 neither reads nor
    writes it.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        self.metadata = dict(metadata or {})

    def load_cassette(self, path: Path, serializer: Any) -> Exchanges:
        """Load the requests and the responses."""
        paths = _paths(path)
        if not paths:
            raise CassetteNotFoundError(path / "*.yaml")
        requests, responses, metadata = [], [], []
        for file in paths:
            loaded = _load(file, _MetadataSerializer(serializer))
            requests += loaded[0]
            responses += loaded[1]
            metadata.append(loaded[2])
        self.metadata = metadata[0]
        return requests, responses

    def save_cassette(self, path: Path, cassette: dict[str, Any], serializer: Any) -> None:
        """Write the whole file, or nothing if that fails."""
        text = serialize(cassette, _MetadataSerializer(serializer, self.metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)


def _paths(path: Path) -> list[Path]:
    """The file itself, or all files of a folder that may be packed."""
    if path.is_file() and not is_packed(path):
        return [path]
    place = place_of(path)
    folder = place.is_dir() or (is_packed(place) and place.is_file())
    return recordings_in(place) if folder else [path]


class _MetadataSerializer:
    """A serializer that also reads and writes a cassette's metadata."""

    def __init__(self, serializer: Any, metadata: Mapping[str, Any] | None = None) -> None:
        self._serializer = serializer
        self.metadata = dict(metadata or {})

    def deserialize(self, text: str) -> Any:
        """The file's content; the metadata is kept in this object."""
        data = self._serializer.deserialize(text)
        self.metadata = (data.get("metadata") or {}) if isinstance(data, dict) else {}
        return data

    def serialize(self, cassette: dict[str, Any]) -> str:
        """The text of the file, with the metadata."""
        text: str = self._serializer.serialize(cassette | {"metadata": self.metadata})
        return text


def unused_cassettes(directory: Path | str, used: Iterable[Path | str]) -> list[Path]:
    """The outdated cassettes: all files under `directory` that are not in `used`, sorted."""
    known = {Path(path).resolve() for path in used}
    return [path for path in recordings_in(Path(directory)) if path.resolve() not in known]


def _load(path: Path, serializer: _MetadataSerializer) -> Loaded:
    try:
        return _loaded(read_recording(path), serializer)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CassetteError(
            f"{path} is not a cassette that can be replayed: {error}; "
            "nothing in it was run; correct it, or delete it and record again"
        ) from error


def _loaded(text: str, serializer: _MetadataSerializer) -> Loaded:
    """Load requests, responses and metadata; every response is checked before any is played."""
    requests, responses, *_ = deserialize(text, serializer)
    provenance = Provenance.from_metadata(serializer.metadata)
    for response in responses:
        from_vcr(response)
    for request in requests:
        _strip_prefix(request, provenance)
        pretty(request)
    return requests, responses, serializer.metadata


def _strip_prefix(request: VcrRequest, provenance: Provenance) -> None:
    """Remove the path of the upstream's address, because a replayer's address has no path."""
    prefix = urlsplit(provenance.upstream or "").path.rstrip("/")
    origin, path = f"{request.scheme}://{request.parsed_uri.netloc}", request.path
    if prefix and path.startswith(prefix + "/"):
        request.uri = origin + request.uri.removeprefix(origin).removeprefix(prefix)


# A replayer has no upstream, and only path and query of the recorded addresses are compared.
_NO_ORIGIN = "http://127.0.0.1"


@dataclass(slots=True)
class Cassette:
    """An open cassette.

    ``unhandled`` describes every request that could not be answered from the cassette, or could
    not be kept in it. A run with such a request has failed, whatever the client did with the error.
    ``unrecorded`` counts those of them for which a replay has no recorded answer.
    """

    path: Path
    provenance: Provenance
    config: RecordingConfig
    unhandled: list[str] = field(default_factory=list)
    unrecorded: int = 0
    redaction: Redaction = field(init=False)

    def __post_init__(self) -> None:
        self.redaction = Redaction.of(self.config)

    @property
    def unused(self) -> list[str]:
        """The recorded requests that have not been made in this replay."""
        return []

    @property
    def misses(self) -> list[str]:
        """The old name of ``unhandled``."""
        warnings.warn("misses is deprecated; write unhandled", DeprecationWarning, stacklevel=2)
        return self.unhandled


@dataclass(slots=True)
class RecordCassette(Cassette):
    """Keeps exchanges in the order in which the requests arrived."""

    _exchanges: list[tuple[VcrRequest, dict[str, Any]] | None] = field(default_factory=list)

    def begin(self) -> int:
        """Reserve the place of an exchange that begins now."""
        self._exchanges.append(None)
        return len(self._exchanges) - 1

    def put(self, place: int, request: VcrRequest, answer: RecordedAnswer) -> None:
        """Redact an exchange and put it in its place."""
        self._exchanges[place] = (request, to_vcr(redacted(answer, self.redaction)))

    def __len__(self) -> int:
        return sum(exchange is not None for exchange in self._exchanges)

    def save(self) -> None:
        """Write the file, unless a request was not handled.

        An old recording is better than a partial one.
        """
        if not self.unhandled:
            self.write()

    def write(self) -> None:
        """Replace the file with the exchanges of this run."""
        cassette = VcrCassette(path=self.path, record_mode=RecordMode.ALL)
        for request, response in filter(None, self._exchanges):
            cassette.append(request, response)
        contents = {"requests": cassette.requests, "responses": cassette.responses}
        persister = Persister({KEY: self.provenance.to_metadata()})
        persister.save_cassette(self.path, contents, yaml_format)


@dataclass(slots=True)
class ReplayCassette(Cassette):
    """Plays the answers to a request in the recorded order, each one once.

    With ``config.repeats`` the last answer is played again after all were played.
    """

    _vcr: VcrCassette = field(init=False)
    _matcher: RequestMatcher = field(init=False)

    @classmethod
    def load(cls, path: Path, config: RecordingConfig) -> ReplayCassette:
        """Load a file or a directory of files; raises CassetteError."""
        persister, matcher = Persister(), RequestMatcher.of(config)
        loaded = VcrCassette.load(
            path=path,
            serializer=yaml_format,
            persister=persister,
            record_mode=RecordMode.NONE,
            match_on=(matcher.matches,),
        )
        cassette = cls(path, Provenance.from_metadata(persister.metadata), config)
        cassette._vcr, cassette._matcher = loaded, matcher
        return cassette

    def play(self, request: Request) -> RecordedAnswer | None:
        """Return the recorded answer; if there is none, say so in `unhandled` and return None."""
        new = self.redaction.request(request, _NO_ORIGIN)
        response = self._next(new)
        if response is None:
            self.unrecorded += 1
            self.unhandled.append(self._matcher.explain(new, self._vcr.requests, self.path))
            return None
        return from_vcr(response)

    @property
    def unused(self) -> list[str]:
        """The recorded requests that have not been made in this replay."""
        return [
            f"number {place + 1}, {title(request)}"
            for place, request in enumerate(self._vcr.requests)
            if not self._vcr.play_counts[place]
        ]

    def _next(self, new: VcrRequest) -> dict[str, Any] | None:
        response: dict[str, Any]
        with contextlib.suppress(UnhandledHTTPRequestError):
            response = self._vcr.play_response(new)
            return response
        with contextlib.suppress(UnhandledHTTPRequestError):
            if self.config.repeats:
                response = self._vcr.responses_of(new)[-1]
                return response
        return None
