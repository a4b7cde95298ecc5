"""A batch in parts: what one actor asks together, and the file that keeps its answers meanwhile.

The file is a journal like the batch's own, so an answer is safe before its part is whole: a part
that Ray starts again, and a run after one that was killed, go on from there.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llmengine.batch.journal import mend, sole_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from llmengine.batch.format import BatchRequest
    from llmengine.batch.journal import Journal
    from llmengine.batch.report import Progress

# How long the actors of a killed run may take to notice that nobody waits for them.
_LAST_WORDS = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """Requests that one actor asks together; ``name`` is that of its file."""

    name: str
    requests: tuple[BatchRequest, ...]


@dataclass(frozen=True, slots=True)
class AskedPart:
    """A part at its end: the lines of its file, and what asking it has cost."""

    name: str
    lines: bytes
    progress: Progress
    errors: tuple[str, ...]


def parts_of(requests: Iterable[BatchRequest], size: int) -> Iterator[Part]:
    """The requests in parts of that size; no two runs have a name in common."""
    waiting, run = iter(requests), uuid.uuid4().hex[:8]
    number = 0
    while some := tuple(islice(waiting, size)):
        yield Part(f"{run}-{number:06}.jsonl", some)
        number += 1


def recover(folder: Path, journal: Journal, *, keep: bool) -> None:
    """Take in what a killed run has left in the folder; without `keep`, throw it away.

    Raises ConfigError for a file that is no journal, and for one that is still written to.
    """
    for file in sorted(folder.glob("*.jsonl")):
        with sole_writer(file, _LAST_WORDS):
            if keep:
                mend(file)
                with file.open("rb") as lines:
                    journal.take(lines, file)
        remove(file)


def remove(file: Path) -> None:
    """Take a part's file and its lock away, as far as they can be seen from here."""
    file.unlink(missing_ok=True)
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Take the folder away once it is empty; it may be no folder of this machine."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
