"""One cassette while it is open: what is written to it, or played from it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vcr.cassette import Cassette
from vcr.errors import UnhandledHTTPRequestError
from vcr.record_mode import RecordMode

from pytest_llmengine.recording import yaml_format
from pytest_llmengine.recording.files import Persister
from pytest_llmengine.recording.interaction import Answer, from_vcr, redacted, to_vcr
from pytest_llmengine.recording.matching import MATCHERS
from pytest_llmengine.recording.misses import explain, title
from pytest_llmengine.recording.provenance import KEY, Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.redaction import Redaction
    from pytest_llmengine.recording.wire import Request

# A replayer has no upstream; only the path and the query of a recorded address are compared.
_NO_ORIGIN = "http://127.0.0.1"


@dataclass(slots=True)
class Tape:
    """What a test may ask of an open cassette.

    ``misses`` holds, in words, every request that was not answered from the cassette or not kept
    in it: a run with a miss has failed, whatever the client made of it.
    """

    path: Path
    provenance: Provenance
    redaction: Redaction
    misses: list[str] = field(default_factory=list)

    @property
    def unused(self) -> list[str]:
        """Recorded requests that were not made again."""
        return []


@dataclass(slots=True)
class RecordTape(Tape):
    """Keeps what passes, in the order in which the requests arrived."""

    _kept: list[tuple[VcrRequest, dict[str, Any]] | None] = field(default_factory=list)

    def begin(self) -> int:
        """A place for an exchange that begins now."""
        self._kept.append(None)
        return len(self._kept) - 1

    def keep(self, place: int, request: VcrRequest, answer: Answer) -> None:
        """Put an exchange in its place, redacted."""
        self._kept[place] = (request, to_vcr(redacted(answer, self.redaction)))

    def __len__(self) -> int:
        return sum(kept is not None for kept in self._kept)

    def save(self) -> None:
        """Write the file unless there are misses: an old recording is better than half a one."""
        if not self.misses:
            self.write()

    def write(self) -> None:
        """Write the file anew with what this run saw."""
        cassette = Cassette(path=self.path, record_mode=RecordMode.ALL, match_on=MATCHERS)
        for request, response in filter(None, self._kept):
            cassette.append(request, response)
        contents = {"requests": cassette.requests, "responses": cassette.responses}
        persister = Persister({KEY: self.provenance.to_metadata()})
        persister.save_cassette(self.path, contents, yaml_format)


@dataclass(slots=True)
class ReplayTape(Tape):
    """Plays the answers to a request in the order recorded, each once.

    With ``repeats`` the last answer is given again when all were played.
    """

    repeats: bool = False
    _cassette: Cassette = field(init=False)

    @classmethod
    def load(cls, path: Path, redaction: Redaction, *, repeats: bool) -> ReplayTape:
        """Open a file, or a directory of files; raises CassetteError."""
        persister = Persister()
        cassette = Cassette.load(
            path=path,
            serializer=yaml_format,
            persister=persister,
            record_mode=RecordMode.NONE,
            match_on=MATCHERS,
        )
        provenance = Provenance.from_metadata(persister.metadata)
        tape = cls(path, provenance, redaction, repeats=repeats)
        tape._cassette = cassette
        return tape

    def play(self, request: Request) -> Answer | None:
        """The recorded answer; None is a miss, and `misses` has a new last entry."""
        asked = self.redaction.request(request, _NO_ORIGIN)
        response = self._next(asked)
        if response is None:
            self.misses.append(explain(asked, self._cassette.requests, self.path))
            return None
        return from_vcr(response)

    @property
    def unused(self) -> list[str]:
        """Recorded requests that were not made again."""
        return [
            f"number {place + 1}, {title(request)}"
            for place, request in enumerate(self._cassette.requests)
            if not self._cassette.play_counts[place]
        ]

    def _next(self, asked: VcrRequest) -> dict[str, Any] | None:
        response: dict[str, Any]
        with contextlib.suppress(UnhandledHTTPRequestError):
            response = self._cassette.play_response(asked)
            return response
        with contextlib.suppress(UnhandledHTTPRequestError):
            if self.repeats:
                response = self._cassette.responses_of(asked)[-1]
                return response
        return None
