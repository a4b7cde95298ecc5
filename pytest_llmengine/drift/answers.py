"""What is asked of a server to recognise its model, and the answers, as plain values.

The classes are checked when they are read from a file, so that a file which another tool changed
gives one clear error.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmengine.types.errors import LLMEngineError
from pytest_llmengine.drift.token_scores import AnswerScore  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How values of a file are checked: no unknown fields, and no NaN."""


class DriftError(LLMEngineError):
    """A baseline cannot be recorded, read or checked; the message says why and what to do."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def from_dict(kind: type[T], row: Any) -> T:
    """The instance of a dataclass that `to_dict` wrote; raises DriftError for anything else."""
    known: Any = kind  # mypy does not see that classes can be hashed
    try:
        found: T = _adapter(known).validate_python(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DriftError(f"{where or kind.__name__}: {first['msg']}") from None
    except RecursionError:
        raise DriftError("it is nested too deeply") from None
    return found


def to_dict(value: object) -> dict[str, Any]:
    """A dataclass as a JSON object; fields with their default are left out."""
    kind: Any = type(value)
    row = _adapter(kind).dump_python(value, mode="json", exclude_defaults=True)
    assert isinstance(row, dict)
    return row


class RoundKind(StrEnum):
    """What the prompts of a round are answered with."""

    FIRST = "first"
    """The first token, at temperature 0."""
    LONG = "long"
    """Some tokens, at temperature 0: for penalties and truncation, which one token cannot show."""
    SAMPLED = "sampled"
    """Some tokens, sampled under a shared seed."""
    SCORED = "scored"
    """Some tokens, sampled under a seed of each round, and judged by a reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftPrompt:
    """One user message, and the values of its request that are not the same for all."""

    __pydantic_config__ = STRICT

    text: str
    kind: RoundKind = RoundKind.FIRST
    max_tokens: int = 1
    temperature: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftAnswer:
    """One answer as a plain value; ``error`` says why there is none.

    ``prompt`` is the position of the prompt among all prompts. ``text`` includes reasoning.
    ``tokens`` are the texts of the generated tokens and ``logprobs`` their log-probabilities, None
    if the server shows none. ``top`` has the likeliest first tokens with their log-probabilities.
    ``token_ids`` is None if the server shows no ids. ``score`` is what a reference with the same
    weights says about them. ``repeated`` is true if the answer's id is
    the id of an earlier answer.
    """

    __pydantic_config__ = STRICT

    prompt: int
    text: str = ""
    tokens: tuple[str, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    top: Mapping[str, float] | None = None
    token_ids: tuple[int, ...] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    score: AnswerScore | None = None
    repeated: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftRound:
    """One pass over all prompts of one kind: one answer per prompt, in the order of the prompts.

    ``load`` is the number of requests in flight, ``time`` the start in ISO 8601 (UTC). ``seed``
    is that of all requests of the round, None if it is the probe's.
    """

    __pydantic_config__ = STRICT

    kind: RoundKind = RoundKind.FIRST
    load: int
    time: str
    seed: int | None = None
    answers: tuple[DriftAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSession:
    """The rounds that one process measured at one time, in order.

    ``error`` says why the session ended early, "" if it did not. ``requests`` counts all requests,
    and the tokens are those of all prompts and answers, failed rounds included.
    """

    __pydantic_config__ = STRICT

    rounds: tuple[DriftRound, ...]
    error: str = ""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def time(self) -> str:
        """The start of the first round, "" if there is none."""
        return self.rounds[0].time if self.rounds else ""

    def of_kind(self, kind: RoundKind) -> list[DriftRound]:
        """The rounds of this kind."""
        return [one for one in self.rounds if one.kind is kind]

    @property
    def answers(self) -> Iterator[DriftAnswer]:
        """All answers of all rounds."""
        return (answer for one in self.rounds for answer in one.answers)

    def to_dict(self) -> dict[str, Any]:
        """The session as a JSON object."""
        return to_dict(self)

    @classmethod
    def from_dict(cls, row: Any) -> Self:
        """The session that `to_dict` wrote; raises DriftError for anything else."""
        return from_dict(cls, row)
