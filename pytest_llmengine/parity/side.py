"""One side of a comparison, and the file that it is saved in.

A file is JSON Lines: a head and one line per prompt, with the answers of every pass. It is
compressed if its name ends in .gz. It also holds the prompts, so that another machine can send them
to a candidate and reach a verdict.

Files of version 1 hold one answer per prompt, and of the other passes only what differed. They are
read with what can be concluded from that; `Side.notes` says what cannot.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from llmengine.config.documents import read_json_lines
from pytest_llmengine.parity.answers import ParityAnswer
from pytest_llmengine.parity.pairs import Pair
from pytest_llmengine.parity.prompts import ParityError, ParityPrompt, digest_of
from pytest_llmengine.parity.setup import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Everything that a comparison needs of one side, measured now or read from a file.

    ``answers`` has one answer per prompt, in the order of the prompts. ``again`` has the further
    answers to each prompt, one per pass; it is empty if the prompts were sent once. ``groups`` has
    the group of each prompt (see `schedule`), and ``batch`` is how many prompts were sent at once
    at most. ``date`` is the day in ISO 8601 (UTC). ``source`` is the file that the side was read
    from. ``notes`` say what a file of an old version does not hold. ``is_part`` says whether some
    prompts of a group were left out since they were sent.
    """

    name: str
    facts: Facts
    prompts: tuple[ParityPrompt, ...]
    answers: tuple[ParityAnswer, ...]
    again: tuple[tuple[ParityAnswer, ...], ...] = ()
    groups: tuple[int, ...]
    batch: int
    date: str
    tool_version: str
    source: str | None = None
    notes: tuple[str, ...] = ()
    is_part: bool = False

    def answers_to(self, place: int) -> tuple[ParityAnswer, ...]:
        """All answers to the prompt at this place, in the order of the passes."""
        return (self.answers[place], *(self.again[place] if self.again else ()))

    def known_answers_to(self, place: int) -> tuple[ParityAnswer, ...]:
        """The answers to a prompt of which everything is known; of old files, the first only."""
        return self.answers[place : place + 1] if self.notes else self.answers_to(place)

    @property
    def passes(self) -> int:
        """How often every prompt was sent."""
        return 1 + min(map(len, self.again), default=0)

    def answers_in(self, number: int) -> tuple[ParityAnswer, ...]:
        """The answers of one pass, counted from 0."""
        return tuple(self.answers_to(place)[number] for place in range(len(self.prompts)))

    def with_more(self, more: Mapping[int, Sequence[ParityAnswer]]) -> Self:
        """The side with further answers to the prompts at these places."""
        again = self.again or ((),) * len(self.prompts)
        added = tuple((*known, *more.get(place, ())) for place, known in enumerate(again))
        return replace(self, again=added)

    @property
    def cost(self) -> AnswerCost:
        """What the answers of the side cost."""
        known = (a for place in range(len(self.prompts)) for a in self.answers_to(place))
        return AnswerCost.of(known)

    @property
    def digest(self) -> str:
        """A hash of the prompt set."""
        return digest_of(self.prompts)

    def only(self, ids: Iterable[str]) -> Self:
        """The side with only these prompts, in the order of `ids`; unknown ids are ignored."""
        places = {prompt.id: place for place, prompt in enumerate(self.prompts)}
        kept = [places[name] for name in ids if name in places]
        return replace(
            self,
            prompts=tuple(self.prompts[place] for place in kept),
            answers=tuple(self.answers[place] for place in kept),
            again=tuple(self.again[place] for place in kept) if self.again else (),
            groups=tuple(self.groups[place] for place in kept),
            is_part=self.is_part or self._cuts_a_group(kept),
        )

    def _cuts_a_group(self, kept: Sequence[int]) -> bool:
        left = {self.groups[place] for place in set(range(len(self.groups))).difference(kept)}
        return any(self.groups[place] in left for place in kept)

    def describe(self) -> str:
        """The engine and where its answers come from, in one line."""
        origin = f"saved {self.date} in {self.source}" if self.source else f"live {self.date}"
        return f"{self.name}: {self.facts.describe()}, {origin}"


@dataclass(frozen=True, slots=True)
class AnswerCost:
    """What answers cost; a server that reports no usage adds no tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, answers: Iterable[ParityAnswer]) -> Self:
        """The cost of these answers."""
        counted = [(a.prompt_tokens or 0, a.completion_tokens or 0) for a in answers]
        return cls(len(counted), sum(p for p, _ in counted), sum(c for _, c in counted))

    def describe(self) -> str:
        """The numbers in words."""
        return (
            f"{self.requests:,} requests, {self.prompt_tokens:,} prompt tokens and "
            f"{self.completion_tokens:,} completion tokens"
        )


FORMAT = "llmengine-parity"
VERSION = 2
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
        head, *rows = read_json_lines(path)
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
    }
    for place, prompt in enumerate(side.prompts):
        first, *others = (answer.to_dict() for answer in side.answers_to(place))
        again = [_changes(first, other) for other in others]
        group = side.groups[place]
        yield {"prompt": prompt.to_dict(), "group": group, "answer": first, "again": again}


def _changes(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of another answer that differ from the first one's; null if it has none."""
    names = [*first, *(name for name in other if name not in first)]
    return {name: other.get(name) for name in names if other.get(name) != first.get(name)}


def _changed(first: Mapping[str, Any], changes: Mapping[str, Any]) -> ParityAnswer:
    """The answer whose `_changes` these are."""
    fields = {**first, **changes}
    return ParityAnswer.from_dict({k: v for k, v in fields.items() if v is not None})


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def _check_head(head: Any, path: Path) -> None:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ParityError(
            f"saved side {path}: this is not a file that `llmengine parity --save` wrote"
        )
    if head.get("version") not in tuple(_READERS):
        raise ParityError(
            f"saved side {path}: format version {head.get('version')!r}, and this package reads "
            f"{' and '.join(map(str, _READERS))}; update pytest-llmengine, or save it again"
        )


def _side(head: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> Side:
    side = Side(
        name=head["name"],
        facts=Facts.from_dict(head["facts"]),
        prompts=tuple(ParityPrompt.from_dict(row["prompt"]) for row in rows),
        answers=tuple(ParityAnswer.from_dict(row["answer"]) for row in rows),
        groups=tuple(range(len(rows))),
        batch=head["batch"],
        date=head["date"],
        tool_version=head["tool_version"],
        source=path.name,
    )
    return _READERS[head["version"]](side, head, rows)


def _version_2(side: Side, _head: Mapping[str, Any], rows: list[dict[str, Any]]) -> Side:
    again = tuple(tuple(_changed(row["answer"], other) for other in row["again"]) for row in rows)
    groups = tuple(int(row["group"]) for row in rows)
    return replace(side, groups=groups, again=again if any(again) else ())


_NOTE_1 = (
    "{}: a file of version 1 holds one answer per prompt, and whether others were equal. So "
    "log-probabilities are not tested, and the false-alarm rate holds only if answers do not "
    "depend on the prompts that are computed with them. Save it again."
)


def _version_1(side: Side, head: Mapping[str, Any], _rows: list[dict[str, Any]]) -> Side:
    """The side with further answers as far as the file tells.

    It holds the comparison of each with the first answer of the same prompt.
    """
    more: dict[str, list[ParityAnswer]] = {prompt.id: [] for prompt in side.prompts}
    first = {answer.id: answer for answer in side.answers}
    for number, variation in enumerate(head["noise"], 1):
        for row in variation["pairs"]:
            more[row["id"]].append(_answer_of_pair(first[row["id"]], Pair.from_dict(row), number))
    again = tuple(tuple(more[prompt.id]) for prompt in side.prompts)
    noted = replace(side, notes=(_NOTE_1.format(side.source),))
    return replace(noted, again=again) if any(again) else noted


def _answer_of_pair(first: ParityAnswer, pair: Pair, number: int) -> ParityAnswer:
    """A further answer, from the first one and their comparison.

    What is known to differ has a value that no other answer has.
    """
    if pair.errors[1] is not None:
        return ParityAnswer(id=first.id, error=pair.errors[1])
    unknown = f"an answer of pass {number + 1} that a file of version 1 does not hold"
    other_ids = pair.divergence is not None and pair.divergence.unit == "token"
    calls = first.tool_calls
    if (made := pair.calls) and made.matched < max(made.baseline, made.candidate):
        calls = ((unknown, ""),)
    return replace(
        first,
        text=first.text if pair.same_text else unknown,
        token_ids=(-number,) if other_ids and first.token_ids is not None else first.token_ids,
        tokens=None,
        finish_reason=pair.finish_reasons[1],
        completion_tokens=pair.completion_tokens[1],
        valid=pair.valid[1],
        tool_calls=calls,
        error=None,
    )


_READERS = {1: _version_1, 2: _version_2}
