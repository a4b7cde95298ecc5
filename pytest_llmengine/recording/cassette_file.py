"""A cassette as it is on disk: its file, where it comes from, and its exchanges in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmengine.recording import yaml_format
from pytest_llmengine.recording.cassette import Persister, from_vcr
from pytest_llmengine.recording.errors import CassetteNotFoundError
from pytest_llmengine.recording.matchers import title
from pytest_llmengine.recording.packed import is_packed, place_of, recordings_in
from pytest_llmengine.recording.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.cassette import RecordedAnswer


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """A request of a cassette and its answer; ``number`` is its place in the file, from 1."""

    number: int
    request: VcrRequest
    answer: RecordedAnswer

    @property
    def title(self) -> str:
        """Method, path and query of the request."""
        return title(self.request)


@dataclass(frozen=True, slots=True)
class CassetteFile:
    """One cassette; ``path`` may lead into a packed file."""

    path: Path
    provenance: Provenance
    exchanges: tuple[RecordedExchange, ...]

    @classmethod
    def read(cls, path: Path) -> CassetteFile:
        """Read one file, with the safe loader; raises CassetteError."""
        persister = Persister()
        requests, responses = persister.load_cassette(path, yaml_format)
        pairs = zip(requests, responses, strict=True)
        exchanges = (
            RecordedExchange(number, request, from_vcr(response))
            for number, (request, response) in enumerate(pairs, start=1)
        )
        return cls(path, Provenance.from_metadata(persister.metadata), tuple(exchanges))


def cassette_files(place: Path) -> list[Path]:
    """The paths of the cassettes at a place: a file, a folder, or a packed folder.

    Raises CassetteNotFoundError if there are none.
    """
    if place.suffix == ".yaml" or (place.is_file() and not is_packed(place)):
        return [place]
    found = recordings_in(place_of(place))
    if not found:
        raise CassetteNotFoundError(place)
    return found
