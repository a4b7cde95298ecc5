"""The comparison of two answers to one prompt, as plain values."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.parity.answers import ParityAnswer, Token
    from pytest_llmengine.parity.prompts import ParityPrompt

    ToolCalls = Sequence[tuple[str, str]]


class Status(StrEnum):
    """How two answers to one prompt compare."""

    SAME = "same"
    DIVERGED = "diverged"
    ONE_FAILED = "one failed"
    BOTH_FAILED = "both failed"


@dataclass(frozen=True, slots=True)
class DivergingToken:
    """One side's token at the position where two answers diverge.

    ``token`` is None if that side's answer had already ended. ``rank`` is the token's rank among
    the *other* side's likeliest tokens at that position, 1 for the first; None if it is not among
    them, or if the other side gave none.
    """

    token: str | None
    logprob: float | None = None
    rank: int | None = None

    def describe(self) -> str:
        """The token with its log-probability and its rank on the other side."""
        if self.token is None:
            return "the end"
        if self.logprob is None:
            return repr(self.token)
        rank = f"rank {self.rank}" if self.rank else "not among the likeliest"
        return f"{self.token!r} ({self.logprob:.4f}; {rank} there)"


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two answers diverge: ``position`` counts tokens or characters (``unit``) from 0."""

    position: int
    unit: str
    baseline: DivergingToken
    candidate: DivergingToken

    def describe(self) -> str:
        """The position, and the token of each side."""
        tokens = f"{self.baseline.describe()} / {self.candidate.describe()}"
        return f"{self.unit} {self.position}: {tokens}"


@dataclass(frozen=True, slots=True)
class Calls:
    """Tool calls: how many each side made, and how many of them match."""

    matched: int
    baseline: int
    candidate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The comparison of two answers to one prompt; pairs of values are (baseline, candidate).

    ``status`` compares the text, and the token ids if both sides gave them. ``difference`` is the
    largest difference of log-probabilities over the tokens that both answers begin with; None if
    there are none. ``valid`` says whether each answer fits the prompt's schema. ``errors`` says
    why a side has no answer.
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
        """Whether the answers diverge and each side has the other's token among its likeliest."""
        parts = self.divergence
        return parts is not None and None not in (parts.baseline.rank, parts.candidate.rank)

    def to_dict(self) -> dict[str, Any]:
        """The pair as a JSON object; unknown values are left out."""
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
    sides = {name: DivergingToken(**row[name]) for name in ("baseline", "candidate")}
    return Divergence(**{**row, **sides})


def pairs_of(
    prompts: Sequence[ParityPrompt],
    baseline: Iterable[ParityAnswer],
    candidate: Iterable[ParityAnswer],
) -> tuple[Pair, ...]:
    """One pair per prompt, in order."""
    return tuple(
        pair_of(prompt, ours, theirs)
        for prompt, ours, theirs in zip(prompts, baseline, candidate, strict=True)
    )


def pair_of(prompt: ParityPrompt, baseline: ParityAnswer, candidate: ParityAnswer) -> Pair:
    """Compare the two answers to one prompt."""
    if not (baseline.ok and candidate.ok):
        failed = Status.ONE_FAILED if baseline.ok or candidate.ok else Status.BOTH_FAILED
        errors = (baseline.error, candidate.error)
        return Pair(id=prompt.id, kind=prompt.kind, status=failed, errors=errors)
    divergence = first_divergence(baseline, candidate)
    # Positions of characters are none of tokens; tokens are then compared by their texts.
    shared = divergence.position if divergence and divergence.unit == "token" else None
    return Pair(
        id=prompt.id,
        kind=prompt.kind,
        status=Status.SAME if divergence is None else Status.DIVERGED,
        divergence=divergence,
        same_text=baseline.text == candidate.text,
        difference=_difference(baseline.tokens, candidate.tokens, shared),
        finish_reasons=_finish_reasons(baseline, candidate),
        completion_tokens=(baseline.completion_tokens, candidate.completion_tokens),
        valid=(baseline.valid, candidate.valid),
        calls=_calls(baseline.tool_calls, candidate.tool_calls),
    )


def first_divergence(baseline: ParityAnswer, candidate: ParityAnswer) -> Divergence | None:
    """Where two answers diverge, by token ids if both sides have them, and by characters.

    Equal ids are not enough, since users read the text: a gateway may change it and keep the ids.
    """
    if baseline.token_ids is None or candidate.token_ids is None:
        return _divergence_of_texts(baseline.text, candidate.text)
    position = first_difference(baseline.token_ids, candidate.token_ids)
    if position is None:
        alike = _has_same_parts(baseline, candidate)
        return _divergence_of_texts(baseline.text, candidate.text) if alike else None
    return Divergence(
        position,
        "token",
        _token_at(baseline, candidate, position),
        _token_at(candidate, baseline, position),
    )


def _divergence_of_texts(ours: str, theirs: str) -> Divergence | None:
    position = first_difference(ours, theirs)
    if position is None:
        return None
    characters = (DivergingToken(_character(text, position)) for text in (ours, theirs))
    return Divergence(position, "character", *characters)


def _has_same_parts(baseline: ParityAnswer, candidate: ParityAnswer) -> bool:
    """Whether both sides separate reasoning and tool calls from the text, or neither does."""
    return (baseline.reasoning is None, baseline.tool_calls is None) == (
        candidate.reasoning is None,
        candidate.tool_calls is None,
    )


def first_difference(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    """The first position at which two sequences differ; None if they are equal."""
    for position, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return position
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def _character(text: str, position: int) -> str | None:
    return text[position : position + 1] or None


def _token_at(side: ParityAnswer, other: ParityAnswer, position: int) -> DivergingToken:
    """A side's token at a position, with its rank among the other side's likeliest tokens."""
    assert side.token_ids is not None
    if position >= len(side.token_ids):
        return DivergingToken(None)
    token = _item(side.tokens, position)
    if token is None:
        return DivergingToken(f"id {side.token_ids[position]}")
    there = _item(other.tokens, position)
    return DivergingToken(token.text, token.logprob, there.rank_of(token.text) if there else None)


def _item(tokens: Sequence[Token] | None, position: int) -> Token | None:
    return tokens[position] if tokens is not None and position < len(tokens) else None


def _difference(
    ours: Sequence[Token] | None, theirs: Sequence[Token] | None, shared: int | None
) -> float | None:
    """The largest difference of log-probabilities over the tokens that both answers begin with.

    After the first token that differs, the two sides continue different texts, so later tokens
    cannot be compared.
    """
    if ours is None or theirs is None:
        return None
    found: list[float] = []
    for one, other in zip(ours[:shared], theirs[:shared], strict=False):
        if one.text != other.text:
            break
        found.append(abs(one.logprob - other.logprob))
    return round(max(found), 6) if found else None


def _finish_reasons(
    baseline: ParityAnswer, candidate: ParityAnswer
) -> tuple[str | None, str | None]:
    """Why each answer ended; "tool_calls" counts as "stop" if one side leaves calls in the text."""
    reasons = (baseline.finish_reason, candidate.finish_reason)
    if None not in (baseline.tool_calls, candidate.tool_calls):
        return reasons
    ours, theirs = ("stop" if reason == "tool_calls" else reason for reason in reasons)
    return ours, theirs


def _calls(ours: ToolCalls | None, theirs: ToolCalls | None) -> Calls | None:
    if ours is None or theirs is None:
        return None
    one, other = _counter(ours), _counter(theirs)
    return Calls((one & other).total(), one.total(), other.total())


def _counter(calls: ToolCalls) -> Counter[tuple[str, str]]:
    return Counter((name, normalized_arguments(arguments)) for name, arguments in calls)


def normalized_arguments(arguments: str) -> str:
    """The arguments of a tool call without differences in key order and white space."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments
