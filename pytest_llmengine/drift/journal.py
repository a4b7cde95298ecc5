"""The journal of a watch: a file of JSON Lines that has one line per look, beside the baseline.

A head names the baseline and the false-alarm rate. After `llmengine drift accept`, another head
begins the looks at the new baseline. A look is on the disk before it is reported. One run at a time
may use the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmengine.batch.jsonl import JSONLinesFile, repair, sole_writer
from llmengine.config.documents import load_json, read_text
from pytest_llmengine.drift.answers import STRICT, DriftError, from_dict, to_dict
from pytest_llmengine.drift.baseline import ENDINGS
from pytest_llmengine.drift.report import ALPHA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_llmengine.drift.baseline import Baseline

FORMAT = "llmengine-drift-journal"
VERSION = 1
_START = b'{"'  # of every line
_HEAD = f'{{"format":"{FORMAT}",'.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalHead:
    """What the looks after this line compare with, and their false-alarm rate.

    ``baseline`` is the digest of the baseline.
    """

    __pydantic_config__ = STRICT

    baseline: str
    alpha: float
    date: str
    tool_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLook:
    """One look at a server.

    ``scores`` are the scores of its units by kind of evidence, and ``e_values`` the evidence of a
    change after it. ``findings`` need no statistics. If there is an ``error``, the look has no
    scores and does not count. ``changed`` says whether this look or an earlier one has an alarm.
    """

    __pydantic_config__ = STRICT

    date: str
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    e_values: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    changed: bool = False
    error: str = ""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def digest_of(baseline: Baseline) -> str:
    """A digest of everything in a baseline."""
    row = to_dict(replace(baseline, source=None))
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()


def journal_of(baseline: Path) -> Path:
    """The journal beside a baseline's file: ``x.journal.jsonl`` for ``x.jsonl.gz``."""
    name = baseline.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        name = name.removesuffix(ending)
    return baseline.with_name(f"{name}.journal.jsonl")


class WatchJournal:
    """The looks at one baseline, and the open file that the next look is appended to.

    ``torn`` says whether the last line was incomplete, because a run was killed; it was removed.
    ``earlier`` is the number of looks at earlier baselines.
    """

    def __init__(self, path: Path, file: JSONLinesFile, *, torn: bool) -> None:
        self.path = path
        self.torn = torn
        self.earlier = 0
        self.head: JournalHead | None = None
        self.looks: list[WatchLook] = []
        self._file = file
        for number, line in enumerate(_lines(path), start=1):
            try:
                self._read(line)
            except (DriftError, ValueError) as error:
                raise DriftError(f"journal {path}, line {number}: {error}") from None

    def begin(self, digest: str, alpha: float | None, date: str, tool_version: str) -> float:
        """The false-alarm rate of all looks at this baseline; a new journal gets its head.

        Raises DriftError if the journal is about another baseline, or has another rate.
        """
        if self.head is None:
            self.accept(
                JournalHead(
                    baseline=digest,
                    alpha=ALPHA if alpha is None else alpha,
                    date=date,
                    tool_version=tool_version,
                )
            )
        assert self.head is not None
        if self.head.baseline != digest:
            raise DriftError(
                f"journal {self.path} belongs to another baseline, of {self.head.date}: give that "
                "baseline, move the journal out of the way, or name another one with --journal"
            )
        if alpha not in {None, self.head.alpha}:
            raise DriftError(
                f"journal {self.path} has a false-alarm rate of {self.head.alpha:g}, which holds "
                "for all of its looks together; leave out --alpha"
            )
        return self.head.alpha

    def accept(self, head: JournalHead) -> None:
        """Begin the looks at a new baseline."""
        row = {"format": FORMAT, "version": VERSION, **to_dict(head)}
        self._append(row)
        self.head, self.earlier = head, self.earlier + len(self.looks)
        self.looks = []

    def add(self, look: WatchLook) -> None:
        """Append a look; it is on the disk when this returns."""
        self._append(to_dict(look))
        self.looks.append(look)

    def _append(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        self._file.append(f"{line}\n".encode())
        self._file.sync()

    def _read(self, line: str) -> None:
        row = load_json(line)
        if not isinstance(row, dict):
            raise DriftError("this is not a JSON object")
        if "format" in row:
            if (row.pop("format"), row.pop("version", None)) != (FORMAT, VERSION):
                raise DriftError(f"this is not the head of a journal of version {VERSION}")
            self.head, self.earlier = from_dict(JournalHead, row), self.earlier + len(self.looks)
            self.looks = []
        elif self.head is None:
            raise DriftError("there is no head before it")
        else:
            self.looks.append(from_dict(WatchLook, row))


@contextmanager
def open_journal(path: Path) -> Iterator[WatchJournal]:
    """The journal in a file, which is made if there is none, for this run alone.

    Raises DriftError if it is not a journal, and ConfigError if another run uses it.
    """
    if not path.parent.is_dir():
        raise DriftError(f"journal {path}: there is no directory {path.parent}; make it first")
    with sole_writer(path), JSONLinesFile(path) as file:
        size = path.stat().st_size
        if not (_is_journal(path) and repair(path, _START)):
            raise DriftError(f"{path} is not the journal of a watch; name another with --journal")
        torn = path.stat().st_size < size
        yield WatchJournal(path, file, torn=torn)


def _is_journal(path: Path) -> bool:
    """Whether a file begins like a journal; it may be empty."""
    with path.open("rb") as file:
        start = file.read(len(_HEAD))
    return _HEAD.startswith(start)


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except ValueError as error:
        raise DriftError(f"journal {path}: {error}") from None
