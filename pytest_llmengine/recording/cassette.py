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

import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from vcr.request import Request as VcrRequest
from vcr.serialize import deserialize, serialize

from pytest_llmengine.recording.chunks import Timeline
from pytest_llmengine.recording.errors import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.matchers import pretty
from pytest_llmengine.recording.packed import (
    is_packed,
    place_of,
    read_recording,
    recordings_in,
)
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_llmengine.recording.config import RecordingConfig
    from pytest_llmengine.recording.http import Headers

    CutBy = Literal["upstream", "client"]
    Exchange = tuple[VcrRequest, dict[str, Any]]
    Loaded = tuple[list[VcrRequest], list[dict[str, Any]], dict[str, Any]]
    Exchanges = tuple[list[VcrRequest], list[dict[str, Any]]]


EXCHANGE_KEY = "llmengine"
PART = ".part"  # the suffix of a recording that has not replaced its cassette
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
    changed = with_body(answer, body)
    return replace(changed, headers=redaction.response_headers(changed.headers))


def with_body(answer: RecordedAnswer, body: bytes) -> RecordedAnswer:
    """The answer with an edited body; Content-Length and the chunks follow the edits."""
    grown = len(body) - len(answer.body)
    headers = tuple(
        (name, str(int(value) + grown) if name == "content-length" else value)
        for name, value in answer.headers
    )
    timeline = answer.timeline.moved(answer.body, body)
    return replace(answer, headers=headers, body=body, timeline=timeline)


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
    writes it. ``sources`` are the loaded files with where each comes from.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        self.metadata = dict(metadata or {})
        self.sources: dict[Path, Provenance] = {}

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
            self.sources[file] = Provenance.from_metadata(loaded[2])
        self.metadata = metadata[0]
        return requests, responses

    def save_cassette(self, path: Path, cassette: dict[str, Any], serializer: Any) -> None:
        """Write the whole file, or nothing if that fails."""
        write_whole(path, serialize(cassette, _MetadataSerializer(serializer, self.metadata)))


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step, so that a reader or a killed process never leaves a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)


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
        text = read_recording(path)
        if path.suffix == PART:  # a process that was killed may have left half a line
            text = text[: text.rfind("\n") + 1]
        return _loaded(text, serializer)
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
    prefix, origin = _prefix(provenance), _origin(request)
    if prefix and request.path.startswith(prefix + "/"):
        request.uri = origin + request.uri.removeprefix(origin).removeprefix(prefix)


def with_prefix(request: VcrRequest, provenance: Provenance) -> VcrRequest:
    """The request with the path of the upstream's address, as it stands in a file."""
    origin = _origin(request)
    uri = origin + _prefix(provenance) + request.uri.removeprefix(origin)
    return VcrRequest(request.method, uri, request.body, request.headers)


def _prefix(provenance: Provenance) -> str:
    return urlsplit(provenance.upstream or "").path.rstrip("/")


def _origin(request: VcrRequest) -> str:
    return f"{request.scheme}://{request.parsed_uri.netloc}"


@dataclass(slots=True)
class Cassette:
    """An open cassette.

    ``unhandled`` describes every request that could not be answered from the cassette, or could
    not be kept in it. A run with such a request has failed, whatever the client did with the error.
    ``unrecorded`` counts those of them for which a replay has no recorded answer. ``failed`` is
    true if the test or the block that uses the cassette has failed, and ``interrupted`` if it did
    not come to its end.
    """

    path: Path
    provenance: Provenance
    config: RecordingConfig
    unhandled: list[str] = field(default_factory=list)
    unrecorded: int = 0
    failed: bool = False
    interrupted: bool = False
    redaction: Redaction = field(init=False)

    def __post_init__(self) -> None:
        self.redaction = Redaction.of(self.config)

    @property
    def unused(self) -> list[str]:
        """The recorded requests that have not been made in this replay."""
        return []

    @property
    def not_replaced(self) -> str:
        """Why a recording did not replace the file, and where the new answers are, or ""."""
        return ""

    @property
    def misses(self) -> list[str]:
        """The old name of ``unhandled``."""
        warnings.warn("misses is deprecated; write unhandled", DeprecationWarning, stacklevel=2)
        return self.unhandled
