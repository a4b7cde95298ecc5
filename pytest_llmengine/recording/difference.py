"""The difference between two sets of cassettes, such as two recordings of the same tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_llmengine.recording.cassette_file import CassetteFile, cassette_files
from pytest_llmengine.recording.comparison import compare
from pytest_llmengine.recording.config import RecordingConfig
from pytest_llmengine.recording.matchers import RequestMatcher
from pytest_llmengine.recording.packed import place_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.recording.cassette_file import RecordedExchange
    from pytest_llmengine.recording.comparison import Comparison


@dataclass(slots=True)
class CassetteDifference:
    """The exchanges of two sets whose requests match, and those that only one of them has."""

    compared: list[Comparison] = field(default_factory=list)
    only_before: list[str] = field(default_factory=list)
    only_after: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain values, for JSON."""
        return {
            "compared": [one.to_dict() for one in self.compared],
            "only_before": self.only_before,
            "only_after": self.only_after,
        }


def difference(
    before: Path, after: Path, config: RecordingConfig | None = None
) -> CassetteDifference:
    """Compare two files, or the files of the same name in two folders; raises CassetteError.

    `config` says which requests match and which parts of answers are volatile.
    """
    config = config or RecordingConfig()
    found = CassetteDifference()
    old, new = _by_name(before), _by_name(after)
    for name in dict.fromkeys((*old, *new)):
        if name in old and name in new:
            _compare(CassetteFile.read(old[name]), CassetteFile.read(new[name]), found, config)
        elif name in old:
            found.only_before.append(str(old[name]))
        else:
            found.only_after.append(str(new[name]))
    return found


def _by_name(place: Path) -> dict[str, Path]:
    """The cassettes by their paths in the folder; two single files have the same name."""
    files = cassette_files(place)
    if files == [place]:
        return {"": place}
    root = place_of(place)
    return {str(file.relative_to(root)): file for file in files}


def _compare(
    before: CassetteFile, after: CassetteFile, found: CassetteDifference, config: RecordingConfig
) -> None:
    matcher, left = RequestMatcher.of(config), list(after.exchanges)
    for exchange in before.exchanges:
        twin = _taken(exchange, left, matcher)
        if twin is None:
            found.only_before.append(f"{before.path} {exchange.number} {exchange.title}")
        else:
            found.compared.append(
                compare(before.path, exchange, twin.answer, config.volatile_paths)
            )
    found.only_after += (f"{after.path} {one.number} {one.title}" for one in left)


def _taken(
    exchange: RecordedExchange, left: list[RecordedExchange], matcher: RequestMatcher
) -> RecordedExchange | None:
    """The first exchange with the same request, which is removed from those that are left."""
    for place, one in enumerate(left):
        if matcher.matches(one.request, exchange.request):
            return left.pop(place)
    return None
