"""One side of a comparison, its noise floor, and the file that it is saved in.

A file is JSON Lines: a head and one line per prompt. It is compressed if its name ends in .gz. It
also holds the prompts and the noise floor, so that another machine can send the same prompts to a
candidate and reach a verdict.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from llmengine.config.documents import check_values, load_json, read_bytes, read_text, unzip
from pytest_llmengine.parity.answers import ParityAnswer
from pytest_llmengine.parity.pairs import Pair, pairs_of
from pytest_llmengine.parity.prompts import ParityError, ParityPrompt, digest_of
from pytest_llmengine.parity.setup import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Generate = Callable[[str, Sequence[ParityPrompt], int], Sequence[ParityAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Everything that a comparison needs of one side, measured now or read from a file.

    ``answers`` has one answer per prompt, in the order of the prompts. ``noise`` is how far the
    side differs from itself; it is empty if that was not measured. ``date`` is the day in ISO 8601
    (UTC). ``source`` is the file that the side was read from.
    """

    name: str
    facts: Facts
    prompts: tuple[ParityPrompt, ...]
    answers: tuple[ParityAnswer, ...]
    noise: tuple[Variation, ...] = ()
    batch: int
    date: str
    tool_version: str
    source: str | None = None

    @property
    def digest(self) -> str:
        """A hash of the prompt set."""
        return digest_of(self.prompts)

    def only(self, ids: Iterable[str]) -> Self:
        """The side with only these prompts, in the order of `ids`; unknown ids are ignored.

        The noise floor keeps the side's own order.
        """
        both = zip(self.prompts, self.answers, strict=True)
        by_id = {prompt.id: (prompt, answer) for prompt, answer in both}
        kept = [by_id[name] for name in ids if name in by_id]
        wanted = frozenset(prompt.id for prompt, _ in kept)
        return replace(
            self,
            prompts=tuple(prompt for prompt, _ in kept),
            answers=tuple(answer for _, answer in kept),
            noise=tuple(variation.only(wanted) for variation in self.noise),
        )

    def describe(self) -> str:
        """The engine and where its answers come from, in one line."""
        origin = f"saved {self.date} in {self.source}" if self.source else f"live {self.date}"
        return f"{self.name}: {self.facts.describe()}, {origin}"


FORMAT = "llmengine-parity"
VERSION = 1
ENDINGS = (".jsonl", ".jsonl.gz")


def is_saved(name: str) -> bool:
    """Whether a side's name is the name of a file, not of an engine."""
    return name.endswith(ENDINGS)


def check_path(path: Path) -> None:
    """Raise ParityError unless a side can be saved at this path; called before the run."""
    if not is_saved(path.name):
        raise ParityError(f"file {path}: the name must end in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise ParityError(f"file {path}: there is no directory {path.parent}; make it first")


def save(side: Side, path: Path) -> None:
    """Write a side to a file; equal sides give equal bytes."""
    check_path(path)
    data = "".join(f"{_line(row)}\n" for row in _rows(side)).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def load(path: Path) -> Side:
    """The side in a file.

    Raises ParityError if the file does not exist, is not a saved side, has another version, or its
    prompts were changed after it was written.
    """
    try:
        text = unzip(read_bytes(path)) if path.suffix == ".gz" else read_text(path)
        check_values(text)
        head, *rows = [load_json(line) for line in text.splitlines()]
    except OSError as error:
        raise ParityError(f"saved side {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ParityError(f"saved side {path}: {error}") from error
    _check_head(head, path)
    try:
        side = _side(head, rows, path)
        digest, saved = side.digest, head["prompts"]["digest"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ParityError(f"saved side {path}: {type(error).__name__}: {error}") from error
    if digest != saved:
        raise ParityError(f"saved side {path}: its prompts were changed after it was saved")
    return side


def _rows(side: Side) -> Iterator[dict[str, Any]]:
    yield {
        "format": FORMAT,
        "version": VERSION,
        "name": side.name,
        "date": side.date,
        "tool_version": side.tool_version,
        "facts": side.facts.to_dict(),
        "batch": side.batch,
        "prompts": {"count": len(side.prompts), "digest": digest_of(side.prompts)},
        "noise": [variation.to_dict() for variation in side.noise],
    }
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        yield {"prompt": prompt.to_dict(), "answer": answer.to_dict()}


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _check_head(head: Any, path: Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ParityError(
            f"saved side {path}: this is not a file that `llmengine parity --save` wrote"
        )
    if head.get("version") != VERSION:
        raise ParityError(
            f"saved side {path}: format version {head.get('version')}, and this package reads "
            f"{VERSION}; update pytest-llmengine, or save it again"
        )


def _side(head: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> Side:
    return Side(
        name=head["name"],
        facts=Facts.from_dict(head["facts"]),
        prompts=tuple(ParityPrompt.from_dict(row["prompt"]) for row in rows),
        answers=tuple(ParityAnswer.from_dict(row["answer"]) for row in rows),
        noise=tuple(Variation.from_dict(row) for row in head["noise"]),
        batch=head["batch"],
        date=head["date"],
        tool_version=head["tool_version"],
        source=path.name,
    )


_LARGE_BATCH = 64  # as many prompts at once as an engine sends by default


@dataclass(frozen=True, slots=True)
class Variation:
    """The baseline compared with itself, when it is sent ``batch`` prompts at a time."""

    name: str
    batch: int
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """The variation as a JSON object."""
        return {
            "name": self.name,
            "batch": self.batch,
            "pairs": [pair.to_dict() for pair in self.pairs],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The variation that `to_dict` wrote."""
        return cls(row["name"], row["batch"], tuple(Pair.from_dict(p) for p in row["pairs"]))

    def only(self, ids: frozenset[str]) -> Variation:
        """The variation with only these prompts."""
        kept = tuple(pair for pair in self.pairs if pair.id in ids)
        return Variation(self.name, self.batch, kept)


def noise_floor(
    prompts: Sequence[ParityPrompt], answers: Sequence[ParityAnswer], batch: int, generate: Generate
) -> tuple[Variation, ...]:
    """How far the baseline's answers differ from its first answers if the prompts are sent again.

    The prompts are sent three more times: the same way again, one at a time, and in large batches
    in reverse order. So every prompt is computed together with different other prompts.
    ``generate`` is called with the name of the variation, the prompts and the batch size.
    """
    reverse = prompts[::-1]
    return (
        Variation("again", batch, pairs_of(prompts, answers, generate("again", prompts, batch))),
        Variation("one by one", 1, pairs_of(prompts, answers, generate("one by one", prompts, 1))),
        Variation(
            "all at once, reversed",
            _LARGE_BATCH,
            pairs_of(
                prompts, answers, generate("all at once, reversed", reverse, _LARGE_BATCH)[::-1]
            ),
        ),
    )
