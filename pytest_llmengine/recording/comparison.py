"""The comparison of two answers to one request, and the tier in which they agree."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from llmengine.types.secrets import MASK
from pytest_llmengine.contract.outcomes import shortened
from pytest_llmengine.recording.answer_value import answer_value, is_stream, media_type
from pytest_llmengine.recording.json_path import JSONPath, replaced
from pytest_llmengine.recording.transcript import AnswerContent
from pytest_llmengine.recording.volatile import VOLATILE_PATHS, is_volatile_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_llmengine.recording.cassette import RecordedAnswer
    from pytest_llmengine.recording.cassette_file import RecordedExchange


class AnswerTier(StrEnum):
    """How far two answers agree, from the best to the worst.

    ``identical``: status, headers and content are equal. ``volatile``: they are equal but for what
    differs in every answer, such as ids and dates. ``shape``: the same outcome in the same fields
    of the same types, with other values. ``outcome``: the same status, kind of answer and finish
    reason, in other fields. ``different``: another outcome.
    """

    IDENTICAL = "identical"
    VOLATILE = "volatile"
    SHAPE = "shape"
    OUTCOME = "outcome"
    DIFFERENT = "different"

    def is_as_bad_as(self, other: AnswerTier) -> bool:
        """Whether this tier is the other one or a worse one."""
        tiers = list(AnswerTier)
        return tiers.index(self) >= tiers.index(other)


# The id of an earlier answer, to which the live server has given another id, is volatile too.
_VOLATILE = VOLATILE_PATHS + tuple(
    JSONPath.parse(path) for path in ("$.previous_response_id", "$.response.previous_response_id")
)
_TIER_TEXTS = {
    AnswerTier.IDENTICAL: "is identical",
    AnswerTier.VOLATILE: "is the same but for what always differs",
    AnswerTier.SHAPE: "has the same shape and other values",
    AnswerTier.OUTCOME: "has the same outcome and another shape",
    AnswerTier.DIFFERENT: "has another outcome",
}
NOT_COMPARED = "not compared"
_MAX_CHANGES = 20
_MAX_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Comparison:
    """A recorded exchange beside another answer to its request.

    ``tier`` is None if the two were not compared, and then ``reason`` says why. ``changes`` are one
    line each. ``chunks`` are the numbers of chunks of the recorded answer and of the other.
    """

    path: str
    number: int
    title: str
    tier: AnswerTier | None
    changes: tuple[str, ...] = ()
    reason: str = ""
    chunks: tuple[int, int] | None = None

    @classmethod
    def not_sent(cls, path: object, exchange: RecordedExchange, reason: str) -> Comparison:
        """An exchange whose request cannot be sent again, with the reason."""
        return cls(str(path), exchange.number, exchange.title, None, reason=reason)

    @classmethod
    def without_answer(cls, path: object, exchange: RecordedExchange, why: str) -> Comparison:
        """An exchange whose request got no live answer."""
        tier = AnswerTier.DIFFERENT
        return cls(str(path), exchange.number, exchange.title, tier, (f"no answer: {why}",))

    @property
    def place(self) -> str:
        """The file and the number of the exchange."""
        return f"{self.path} {self.number}"

    @property
    def is_unchanged(self) -> bool:
        """Whether the answers are the same but for what always differs."""
        return self.tier in {AnswerTier.IDENTICAL, AnswerTier.VOLATILE}

    def describe(self) -> str:
        """The comparison as a text of one line, or of a line per change."""
        if self.tier is None:
            return f"{self.title} was not compared: {self.reason}"
        found = _TIER_TEXTS[self.tier]
        changes = (f"  {change}" for change in self.changes)
        return "\n".join([f"{self.title}: the live answer {found}", *changes])

    def is_as_bad_as(self, tier: AnswerTier) -> bool:
        """Whether the answers agree only in this tier or in a worse one."""
        return self.tier is not None and self.tier.is_as_bad_as(tier)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values, for JSON and for pytest-xdist."""
        return {**asdict(self), "tier": None if self.tier is None else self.tier.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_dict` has made these values of."""
        tier = values["tier"]
        return cls(**{**values, "tier": None if tier is None else AnswerTier(tier)})


def counts_of(comparisons: Iterable[Comparison]) -> dict[str, int]:
    """The number of exchanges by tier, in the order of the tiers."""
    counted = Counter(one.tier or NOT_COMPARED for one in comparisons)
    return {str(name): counted[name] for name in (*AnswerTier, NOT_COMPARED) if counted[name]}


def summary_of(comparisons: Sequence[Comparison]) -> str:
    """The numbers of exchanges in one line: ``3 exchanges: 2 volatile, 1 different``."""
    counts = ", ".join(f"{count} {name}" for name, count in counts_of(comparisons).items())
    noun = "exchange" if len(comparisons) == 1 else "exchanges"
    return f"{len(comparisons)} {noun}: {counts or 'nothing to compare'}"


def compare(
    path: object,
    exchange: RecordedExchange,
    other: RecordedAnswer,
    volatile: tuple[JSONPath, ...] = (),
) -> Comparison:
    """Compare a recorded exchange of the cassette at `path` with another answer.

    What was redacted in the recorded answer is not compared. `volatile` are the paths of a project
    to what differs in every answer, in addition to VOLATILE_PATHS.
    """
    recorded = exchange.answer
    try:
        tier, changes = _compared(recorded, other, _VOLATILE + volatile)
    except RecursionError:
        same = (recorded.status, recorded.body) == (other.status, other.body)
        tier = AnswerTier.IDENTICAL if same else AnswerTier.DIFFERENT
        changes = () if same else ("the body, which is nested too deeply to say where",)
    chunks = (len(recorded.timeline.sizes), len(other.timeline.sizes))
    return Comparison(str(path), exchange.number, exchange.title, tier, changes, chunks=chunks)


def _compared(
    recorded: RecordedAnswer, other: RecordedAnswer, volatile: tuple[JSONPath, ...]
) -> tuple[AnswerTier, tuple[str, ...]]:
    old = answer_value(recorded)
    new = _redacted_like(old, answer_value(other))
    stable = _stable(old, volatile), _stable(new, volatile)
    changes = [*_changes(recorded, other), *_differences(*stable)]
    shown = changes[:_MAX_CHANGES]
    if len(changes) > _MAX_CHANGES:
        shown.append(f"{len(changes) - _MAX_CHANGES} more changes")
    if _outcome(recorded) != _outcome(other):
        return AnswerTier.DIFFERENT, tuple(shown)
    return _tier(recorded, other, old, new, unchanged=not changes), tuple(shown)


def _tier(
    recorded: RecordedAnswer, other: RecordedAnswer, old: Any, new: Any, *, unchanged: bool
) -> AnswerTier:
    """The tier of two answers with the same outcome."""
    headers = dict(other.headers)
    if _canonical(old) == _canonical(new) and all(
        headers.get(name) == value for name, value in recorded.headers
    ):
        return AnswerTier.IDENTICAL
    if unchanged:
        return AnswerTier.VOLATILE
    same = media_type(recorded) == media_type(other) and set(_shape(old)) == set(_shape(new))
    return AnswerTier.SHAPE if same else AnswerTier.OUTCOME


def _redacted_like(old: Any, new: Any) -> Any:
    """The new value, with the old text wherever the two differ only in what was redacted."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {k: _redacted_like(old[k], v) if k in old else v for k, v in new.items()}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_redacted_like(before, after) for before, after in zip(old, new, strict=True)]
    if isinstance(old, str) and MASK in old:
        pattern = ".*".join(map(re.escape, old.split(MASK)))
        text = new if isinstance(new, str) else json.dumps(new)
        return old if re.fullmatch(pattern, text, re.DOTALL) else new
    return new


def _outcome(answer: RecordedAnswer) -> tuple[object, ...]:
    content = AnswerContent.of(answer)
    in_json = {part.kind for part in content.parts if _is_json(part.text)}
    # A stream that was cut may have no finish reason; who closed the connection tells it apart.
    end = (content.finish_reasons, answer.cut, is_stream(answer))
    return answer.status, content.kinds, in_json, *end


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or list, so that a program that parses it needs one."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _stable(value: Any, volatile: tuple[JSONPath, ...]) -> Any:
    """The value with only the types of what is volatile; of a stream, the list of its events."""
    if isinstance(value, dict) and value.keys() == {"events"}:
        return [_stable(event, volatile) for event in value["events"]]
    return replaced(value, volatile, lambda found: f"<{_type(found)}>")


def _canonical(value: Any) -> str:
    """A text by which values are compared: ``true`` and ``1`` differ, and 1 and 1.0 do not."""
    return json.dumps(_numbers(value), sort_keys=True, ensure_ascii=False)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shape(value: Any, path: str = "$") -> Iterator[tuple[str, object]]:
    """The path and the type of every value; a list of fractions, such as a vector, has a length."""
    yield path, _type(value)
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _shape(item, f"{path}.{name}")
    elif isinstance(value, list):
        if any(isinstance(item, float) for item in value):
            yield path, len(value)
        for item in value:
            yield from _shape(item, f"{path}[]")


def _type(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "object"


# ---- what changed, one line each


def _changes(recorded: RecordedAnswer, other: RecordedAnswer) -> Iterator[str]:
    """What changed beside the body."""
    if recorded.status != other.status:
        yield f"status: {recorded.status} became {other.status}"
    if recorded.cut != other.cut:
        yield f"closed early by: {recorded.cut or 'no one'} became {other.cut or 'no one'}"
    old, new = dict(recorded.headers), dict(other.headers)
    for name in sorted(old):  # a recorder may have dropped those that are only new
        if not is_volatile_header(name) and old.get(name) != new.get(name):
            yield f"header {name}: {_said(old, name)} became {_said(new, name)}"


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The smallest parts in which two values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            inner = f"{path}.{name}" if path else name
            if name not in old or name not in new:
                yield f"{inner}: {_said(old, name)} became {_said(new, name)}"
            else:
                yield from _differences(old[name], new[name], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}[{place}]")
    elif isinstance(old, list) and isinstance(new, list):
        yield f"{path or 'body'}: {len(old)} elements became {len(new)}"
    elif _canonical(old) != _canonical(new):
        yield f"{path or 'body'}: {_shown(old)} became {_shown(new)}"


def _said(members: dict[str, Any], name: str) -> str:
    return _shown(members[name]) if name in members else "nothing"


def _shown(value: Any) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), _MAX_WIDTH)
