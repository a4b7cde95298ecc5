"""The lint of cassettes: what should not be in a repository, or no longer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.config.documents import load_json, read_text
from llmengine.types.secrets import MASK, is_secret_name, mask_pairs
from pytest_llmengine.recording.cassette import PART, unused_cassettes
from pytest_llmengine.recording.cassette_file import CassetteFile, cassette_files
from pytest_llmengine.recording.config import RecordingConfig
from pytest_llmengine.recording.errors import CassetteError
from pytest_llmengine.recording.key_search import keys_in_text
from pytest_llmengine.recording.matchers import RequestMatcher
from pytest_llmengine.recording.packed import read_recording
from pytest_llmengine.recording.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_llmengine.recording.cassette_file import RecordedExchange


class FindingKind(StrEnum):
    """What may be wrong with a cassette."""

    BROKEN = "broken"
    SECRET = "secret"  # noqa: S105 - a kind of finding
    STALE = "stale"
    UNUSED = "unused"
    DUPLICATED = "duplicated"
    OVERSIZED = "oversized"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class LintFinding:
    """Something that is wrong with a cassette, and what to do about it."""

    kind: FindingKind
    path: str
    what: str
    advice: str

    def to_dict(self) -> dict[str, str]:
        """The finding as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LintLimits:
    """When a cassette is too old or too large, and which cassettes a run has played.

    ``max_age`` is in days and ``max_size`` in bytes. ``played`` are the paths of the cassettes that
    a whole run of the tests has played, each with its recorded requests that were not made; None if
    there was no run.
    """

    max_age: int = 180
    max_size: int = 500_000
    played: Mapping[Path, Sequence[str]] | None = None
    today: date = field(default_factory=lambda: datetime.now(UTC).date())


def lint(place: Path, limits: LintLimits) -> list[LintFinding]:
    """The findings in all cassettes of a place, in the order of the files; raises CassetteError."""
    findings = list(_unfinished(place))
    for path in cassette_files(place):
        try:
            file = CassetteFile.read(path)
        except CassetteError as error:
            what = str(error).partition("; nothing in it")[0]
            advice = "correct it, or delete it and record again"
            findings.append(LintFinding(FindingKind.BROKEN, str(path), what, advice))
            continue
        findings += [
            *_secrets(file),
            *_stale(file, limits),
            *_duplicated(file),
            *_oversized(file, limits),
        ]
    return findings + list(_unused(place, limits))


def read_played(file: Path) -> dict[Path, list[str]]:
    """The cassettes that a run has played, from the file that it wrote; raises CassetteError.

    Each has the recorded requests that were not made.
    """
    try:
        content = load_json(read_text(file))
        played = {Path(path): list(map(str, unused)) for path, unused in content["played"].items()}
        whole = content["whole_run"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CassetteError(
            f"{file} is not a file that `pytest --engine-played` wrote: {error}"
        ) from error
    if not whole:
        raise CassetteError(
            f"{file} is of a run of only some tests, which cannot tell what is unused; run all of "
            "them, without paths, -k and -m, and without failures"
        )
    return played


# ---- secrets

_REVOKE = "revoke the key; then record again, or write [redacted] in its place"


def _secrets(file: CassetteFile) -> Iterator[LintFinding]:
    for exchange in file.exchanges:
        for where, what in _secrets_of(exchange):
            place = f"{where} of exchange {exchange.number}"
            yield LintFinding(FindingKind.SECRET, str(file.path), f"{what} is in {place}", _REVOKE)


def _secrets_of(exchange: RecordedExchange) -> Iterator[tuple[str, str]]:
    """Where there is a secret, and what it is; never the secret itself."""
    request, answer = exchange.request, exchange.answer
    kinds = (request.headers.get("content-type", ""), dict(answer.headers).get("content-type", ""))
    query = urlsplit(request.uri).query
    yield from (("the address", kind) for kind in keys_in_text(request.uri))
    if mask_pairs(query) != query:
        yield "the address", "the value of a parameter with the name of a key"
    texts = (
        ("the request", [(n, str(v)) for n, v in request.headers.items()], request.body or b""),
        ("the answer", list(answer.headers), answer.body),
    )
    for kind, (side, headers, body) in zip(kinds, texts, strict=True):
        for name, value in headers:
            if is_secret_name(name, "header") and value and MASK not in value:
                yield f"the header {name} of {side}", "a value"
            else:
                yield from ((f"the header {name} of {side}", one) for one in keys_in_text(value))
        found = list(keys_in_text(body.decode("utf-8", "replace")))
        yield from ((f"the body of {side}", one) for one in found)
        if not found and Redaction().body(body, kind) != body:
            yield f"the body of {side}", "the value of a field with the name of a key"


# ---- age, size and use


def _stale(file: CassetteFile, limits: LintLimits) -> Iterator[LintFinding]:
    age = _age(file.provenance.recorded_at, limits.today)
    if limits.max_age and age is not None and age > limits.max_age:
        what = f"it was recorded {age} days ago"
        advice = "record it again, or see what changed with `llmengine cassettes verify`"
        yield LintFinding(FindingKind.STALE, str(file.path), what, advice)


def _age(recorded_at: str | None, today: date) -> int | None:
    """Days since the recording; None if its date is not known."""
    try:
        return (today - date.fromisoformat((recorded_at or "")[:10])).days
    except ValueError:
        return None


def _oversized(file: CassetteFile, limits: LintLimits) -> Iterator[LintFinding]:
    size = len(read_recording(file.path).encode())
    if not limits.max_size or size <= limits.max_size:
        return
    largest = max(file.exchanges, key=_size, default=None)
    what = f"it has {size:,} bytes"
    if largest is not None:
        what += f", {_size(largest):,} of them in exchange {largest.number}, {largest.title}"
    advice = "ask for shorter answers, or split the test"
    yield LintFinding(FindingKind.OVERSIZED, str(file.path), what, advice)


def _unfinished(place: Path) -> Iterator[LintFinding]:
    """What runs have left that failed, or that were ended before they could save it."""
    for part in sorted(place.rglob(f"*.yaml{PART}")):
        what = "a run that failed or was ended left its answers here"
        advice = f"rename it to {part.stem} to keep them, or delete it"
        yield LintFinding(FindingKind.UNFINISHED, str(part), what, advice)


def _size(exchange: RecordedExchange) -> int:
    return len(exchange.request.body or b"") + len(exchange.answer.body)


def _duplicated(file: CassetteFile) -> Iterator[LintFinding]:
    """Exchanges with the request and the answer of an earlier one, which a replay can repeat."""
    matcher = RequestMatcher.of(RecordingConfig())
    seen: dict[tuple[str, int, bytes], list[RecordedExchange]] = {}
    for exchange in file.exchanges:
        answer = exchange.answer
        same = seen.setdefault((exchange.title, answer.status, answer.body), [])
        for earlier in same:
            if matcher.matches(exchange.request, earlier.request):
                what = f"exchange {exchange.number}, {exchange.title}, repeats {earlier.number}"
                advice = "ask once, or delete it and replay with `repeats`"
                yield LintFinding(FindingKind.DUPLICATED, str(file.path), what, advice)
                break
        else:
            same.append(exchange)


def _unused(place: Path, limits: LintLimits) -> Iterator[LintFinding]:
    if limits.played is None:
        return
    played = {path.resolve(): requests for path, requests in limits.played.items()}
    for path in unused_cassettes(place, played):
        advice = "delete it, or record it again under the name of its test"
        yield LintFinding(FindingKind.UNUSED, str(path), "no test played it", advice)
    for path in cassette_files(place):
        for request in played.get(path.resolve(), ()):
            what = f"{request}, is recorded but was not made"
            yield LintFinding(FindingKind.UNUSED, str(path), what, "record it again")
