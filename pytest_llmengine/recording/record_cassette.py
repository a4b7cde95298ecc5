"""The cassette of a recorder: it is written beside the file as it goes, and replaces it at the end.

Each exchange is appended to ``NAME.yaml.part`` when it ends, so a process that is killed loses at
most the exchanges in flight, and the earlier recording in ``NAME.yaml`` stays whole. The part is a
cassette too, with one line per exchange. It is removed when the file is written, and stays if the
file is not to be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vcr.serialize import serialize

from pytest_llmengine.recording import yaml_format
from pytest_llmengine.recording.cassette import (
    PART,
    Cassette,
    Persister,
    from_vcr,
    redacted,
    to_vcr,
    with_prefix,
    write_whole,
)
from pytest_llmengine.recording.errors import CassetteError
from pytest_llmengine.recording.matchers import RequestMatcher
from pytest_llmengine.recording.provenance import KEY
from pytest_llmengine.recording.replay import ReplayCassette
from pytest_llmengine.recording.volatile import keep_unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.cassette import Exchange, RecordedAnswer
    from pytest_llmengine.recording.http import Request
    from pytest_llmengine.recording.provenance import Provenance


def part_of(path: Path) -> Path:
    """The file beside a cassette that holds a recording which has not replaced it."""
    return path.with_name(path.name + PART)


@dataclass(slots=True)
class RecordCassette(Cassette):
    """Keeps exchanges in the order in which the requests arrived.

    ``earlier`` is the recording that requests are answered from, if the record mode says so.
    ``adds`` is false if no request may be added to it.
    """

    earlier: ReplayCassette | None = None
    adds: bool = True
    _exchanges: list[Exchange | None] = field(default_factory=list)
    _part_begun: bool = False

    def begin(self) -> int:
        """Reserve the place of an exchange that begins now."""
        self._exchanges.append(None)
        return len(self._exchanges) - 1

    def put(self, place: int, request: VcrRequest, answer: RecordedAnswer) -> None:
        """Redact an exchange, put it in its place, and append it to the part."""
        exchange = (request, to_vcr(redacted(answer, self.redaction)))
        self._exchanges[place] = exchange
        self._append(exchange)

    def play(self, request: Request) -> RecordedAnswer | None:
        """Return the answer of the earlier recording, or None.

        If nothing may be added to that recording, `unhandled` says that the answer is missing.
        """
        if self.earlier is None:
            return None
        return self.earlier.find(request) if self.adds else self.earlier.play(request)

    @property
    def unused(self) -> list[str]:
        """The requests of the earlier recording that have not been made."""
        return [] if self.earlier is None else self.earlier.unused

    def __len__(self) -> int:
        return sum(exchange is not None for exchange in self._exchanges)

    @property
    def not_replaced(self) -> str:
        """Why the file is not changed at the end, and where the new answers are, or "".

        The file stays if the run was interrupted, or if a request was not handled. It also stays
        if the test or the block has failed, unless there is no recording yet or
        ``record_on_exception`` is set.
        """
        if self.interrupted:
            why = "the run was interrupted"
        elif self.unhandled:
            why = "a request was not recorded"
        elif self.failed and not self.config.record_on_exception and self.path.exists():
            why = "the run failed"
        else:
            return ""
        if not self._exchanges:  # one that is being written now counts
            return f"{self.path} was not changed, because {why}"
        part = part_of(self.path)
        return (
            f"{self.path} was not changed, because {why}; the new answers are in {part}, and "
            f"renaming it to {self.path.name} makes them the recording"
        )

    def save(self) -> None:
        """Write the file, unless a good recording would be lost; see `not_replaced`."""
        nothing_new = self.earlier is not None and not len(self)
        if not (nothing_new or self.not_replaced):
            self.write()

    def write(self) -> None:
        """Replace the file with the exchanges of this run, and remove the part."""
        provenance, exchanges = self._to_write()
        in_file = [_in_file(exchange, provenance) for exchange in exchanges]
        contents = {
            "requests": [request for request, _ in in_file],
            "responses": [response for _, response in in_file],
        }
        persister = Persister({KEY: provenance.to_metadata()})
        persister.save_cassette(self.path, contents, yaml_format)
        part_of(self.path).unlink(missing_ok=True)

    def _to_write(self) -> tuple[Provenance, list[Exchange]]:
        """The exchanges for the file, and where they come from.

        Exchanges that have not changed are those of the file. If nothing has changed, the date of
        the file stays too, unless it is older than ``max_age``.
        """
        new = [exchange for exchange in self._exchanges if exchange is not None]
        if self.earlier is not None:
            return self.provenance, [*self.earlier.exchanges, *new]
        if not self.path.is_file():
            return self.provenance, new
        try:
            old = ReplayCassette.load(self.path, self.config)
        except CassetteError:  # it is not a cassette, so there is nothing to keep
            return self.provenance, new
        matcher = RequestMatcher.of(self.config)
        earlier = list(filter(self._is_redacted, old.exchanges))
        kept = keep_unchanged(new, earlier, matcher, self.config.volatile_paths)
        dated = replace(self.provenance, recorded_at=old.provenance.recorded_at)
        is_new = dated != old.provenance or kept != old.exchanges
        return (self.provenance if is_new or old.expired else dated), kept

    def _is_redacted(self, exchange: Exchange) -> bool:
        """Whether the redaction of today would leave an earlier exchange as it is."""
        request, answer = exchange[0], from_vcr(exchange[1])
        body, kind = request.body or b"", request.headers.get("content-type", "")
        return (
            redacted(answer, self.redaction) == answer
            and self.redaction.body(body, kind) == body
            and self.redaction.text(request.uri) == request.uri
            and self.redaction.headers.isdisjoint(request.headers)
        )

    def _append(self, exchange: Exchange) -> None:
        """Append an exchange to the part, which begins with what was recorded earlier."""
        part = part_of(self.path)
        if not self._part_begun:
            metadata = {KEY: self.provenance.to_metadata()}
            head = yaml_format.serialize({"version": 1, "metadata": metadata})
            before = [] if self.earlier is None else self.earlier.exchanges
            write_whole(part, "".join([head, "interactions:\n", *map(self._line, before)]))
            self._part_begun = True
        with part.open("ab", buffering=0) as file:
            file.write(self._line(exchange).encode())

    def _line(self, exchange: Exchange) -> str:
        request, response = _in_file(exchange, self.provenance)
        contents = {"requests": [request], "responses": [response]}
        line: str = serialize(contents, yaml_format.LINES)
        return line


def _in_file(exchange: Exchange, provenance: Provenance) -> Exchange:
    """The exchange as it stands in a file; vcrpy changes the body of the response that it gets."""
    request, response = exchange
    return with_prefix(request, provenance), response | {"body": dict(response["body"])}
