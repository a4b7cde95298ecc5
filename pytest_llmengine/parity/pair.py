"""What became of one prompt on two sides, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class Status(StrEnum):
    """How two answers to one prompt stand to each other."""

    SAME = "same"
    DIVERGED = "diverged"
    ONE_FAILED = "one failed"
    BOTH_FAILED = "both failed"


@dataclass(frozen=True, slots=True)
class Place:
    """One side's token where two answers part; None where that side had ended.

    ``rank`` is the token's place in the *other* side's likeliest tokens there, 1 the first; None
    where it is not among them, or where the other side gave none.
    """

    token: str | None
    logprob: float | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two answers part: ``position`` counts from 0 in tokens, or characters of the text."""

    position: int
    unit: str
    baseline: Place
    candidate: Place


@dataclass(frozen=True, slots=True)
class Calls:
    """Tool calls: how many each side made, and how many of them are the same."""

    matched: int
    baseline: int
    candidate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The comparison of two answers to one prompt; pairs of values are (baseline, candidate).

    ``status`` looks at token ids where both sides gave them, else at the text. ``difference`` is
    the largest difference of the log-probabilities of the tokens that both answers begin with;
    None where there are none. ``valid`` says whether each answer fits the prompt's schema, and
    ``errors`` why there is none.
    """

    id: str
    kind: str
    status: Status
    divergence: Divergence | None = None
    same_text: bool = False
    difference: float | None = None
    finish_reasons: tuple[str | None, str | None] = (None, None)
    completion_tokens: tuple[int | None, int | None] = (None, None)
    valid: tuple[bool | None, bool | None] = (None, None)
    calls: Calls | None = None
    errors: tuple[str | None, str | None] = (None, None)

    @property
    def compared(self) -> bool:
        """Whether both sides answered."""
        return self.status in (Status.SAME, Status.DIVERGED)

    @property
    def within_top(self) -> bool:
        """Whether the answers part where each side held the other's token for likely too."""
        parts = self.divergence
        return parts is not None and None not in (parts.baseline.rank, parts.candidate.rank)

    def to_dict(self) -> dict[str, Any]:
        """The pair as a JSON object; what is not known is left out."""
        row = {k: v for k, v in asdict(self).items() if v is not None and v != (None, None)}
        return row | {"status": self.status.value}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The pair that `to_dict` wrote."""
        known = dict(row)
        known["status"] = Status(known["status"])
        for name in ("finish_reasons", "completion_tokens", "valid", "errors"):
            if name in known:
                known[name] = tuple(known[name])
        if "divergence" in known:
            known["divergence"] = _divergence(known["divergence"])
        if "calls" in known:
            known["calls"] = Calls(**known["calls"])
        return cls(**known)


def _divergence(row: Mapping[str, Any]) -> Divergence:
    sides = {name: Place(**row[name]) for name in ("baseline", "candidate")}
    return Divergence(**{**row, **sides})
