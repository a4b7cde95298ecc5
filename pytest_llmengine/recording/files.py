"""Cassette files on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vcr.serialize import deserialize, serialize

from llmengine.config.documents import read_text
from pytest_llmengine.recording.errors import CassetteError, CassetteNotFoundError
from pytest_llmengine.recording.interaction import from_vcr
from pytest_llmengine.recording.matching import pretty
from pytest_llmengine.recording.provenance import KEY, Provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vcr.request import Request as VcrRequest

    Loaded = tuple[list[VcrRequest], list[dict[str, Any]], dict[str, Any]]

_PATTERN = "*.yaml"


class Persister:
    """vcrpy's persister interface: one file, or all files under a directory as one cassette.

    Unlike vcrpy's own it never takes a file that it cannot read for an empty one.
    """

    @staticmethod
    def load_cassette(path: Path, serializer: Any) -> Loaded:
        """Requests, responses and metadata; of several files, the first one's metadata."""
        paths = sorted(path.rglob(_PATTERN)) if path.is_dir() else [path]
        if not paths:
            raise CassetteNotFoundError(path / _PATTERN)
        requests, responses, metadata = [], [], []
        for file in paths:
            loaded = _load(file, serializer)
            requests += loaded[0]
            responses += loaded[1]
            metadata.append(loaded[2])
        return requests, responses, {KEY: {}} | metadata[0]

    @staticmethod
    def save_cassette(path: Path, cassette: dict[str, Any], serializer: Any) -> None:
        """Write the file whole or not at all."""
        text = serialize(cassette, serializer)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)


def unused_cassettes(directory: Path | str, used: Iterable[Path | str]) -> list[Path]:
    """The cassette files under `directory` that are not among `used`, sorted: outdated ones."""
    known = {Path(path).resolve() for path in used}
    return sorted(p for p in Path(directory).rglob(_PATTERN) if p.resolve() not in known)


def _load(path: Path, serializer: Any) -> Loaded:
    try:
        return _loaded(read_text(path), serializer)
    except FileNotFoundError:
        raise CassetteNotFoundError(path) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CassetteError(
            f"{path} is not a cassette that can be replayed: {error}; "
            "nothing in it was run; mend it, or delete it and record again"
        ) from error


def _loaded(text: str, serializer: Any) -> Loaded:
    """A cassette's requests, responses and metadata, each looked at once before any is played."""
    loaded = deserialize(text, serializer)
    requests, responses = loaded[0], loaded[1]
    metadata = loaded[2] if len(loaded) > 2 else {}  # noqa: PLR2004 - vcrpy's optional third
    provenance = Provenance.from_metadata(metadata)
    for response in responses:
        from_vcr(response)
    for request in requests:
        _strip_prefix(request, provenance)
        pretty(request)
    return requests, responses, metadata


def _strip_prefix(request: VcrRequest, provenance: Provenance) -> None:
    """Take the path of the upstream's address away: a replayer has none in its own."""
    prefix = urlsplit(provenance.upstream or "").path.rstrip("/")
    origin, path = f"{request.scheme}://{request.parsed_uri.netloc}", request.path
    if prefix and path.startswith(prefix + "/"):
        request.uri = origin + request.uri.removeprefix(origin).removeprefix(prefix)
