"""Holds the answers of two sides against each other, prompt by prompt."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from pytest_llmengine.parity.pair import Calls, Divergence, Pair, Place, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmengine.parity.answer import Answer, Token
    from pytest_llmengine.parity.prompt import Prompt

    ToolCalls = Sequence[tuple[str, str]]


def pairs_of(
    prompts: Sequence[Prompt], baseline: Iterable[Answer], candidate: Iterable[Answer]
) -> tuple[Pair, ...]:
    """One pair a prompt, in order."""
    return tuple(
        pair_of(prompt, ours, theirs)
        for prompt, ours, theirs in zip(prompts, baseline, candidate, strict=True)
    )


def pair_of(prompt: Prompt, baseline: Answer, candidate: Answer) -> Pair:
    """What becomes of one prompt on two sides."""
    if not (baseline.ok and candidate.ok):
        failed = Status.ONE_FAILED if baseline.ok or candidate.ok else Status.BOTH_FAILED
        errors = (baseline.error, candidate.error)
        return Pair(id=prompt.id, kind=prompt.kind, status=failed, errors=errors)
    divergence = first_divergence(baseline, candidate)
    shared = None if divergence is None else divergence.position
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


def first_divergence(baseline: Answer, candidate: Answer) -> Divergence | None:
    """Where two answers part, by token ids if both sides have them, else by characters."""
    ours, theirs = _pieces(baseline, candidate)
    position = first_difference(ours, theirs)
    if position is None:
        return None
    if baseline.token_ids is None or candidate.token_ids is None:
        return Divergence(
            position,
            "character",
            Place(_character(baseline.text, position)),
            Place(_character(candidate.text, position)),
        )
    return Divergence(
        position,
        "token",
        _place(baseline, candidate, position),
        _place(candidate, baseline, position),
    )


def _pieces(baseline: Answer, candidate: Answer) -> tuple[Sequence[object], Sequence[object]]:
    if baseline.token_ids is None or candidate.token_ids is None:
        return baseline.text, candidate.text
    return baseline.token_ids, candidate.token_ids


def first_difference(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    """The first place where two sequences are not the same; None if they are in all."""
    for position, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return position
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def _character(text: str, position: int) -> str | None:
    return text[position : position + 1] or None


def _place(side: Answer, other: Answer, position: int) -> Place:
    """A side's token at a position, and its rank among what the other held likely there."""
    assert side.token_ids is not None
    if position >= len(side.token_ids):
        return Place(None)
    token = _at(side.tokens, position)
    if token is None:
        return Place(f"id {side.token_ids[position]}")
    there = _at(other.tokens, position)
    return Place(token.text, token.logprob, there.rank_of(token.text) if there else None)


def _at(tokens: Sequence[Token] | None, position: int) -> Token | None:
    return tokens[position] if tokens is not None and position < len(tokens) else None


def _difference(
    ours: Sequence[Token] | None, theirs: Sequence[Token] | None, shared: int | None
) -> float | None:
    """The largest difference over the tokens that both answers begin with.

    Behind the first other token the two sides were asked different questions.
    """
    if ours is None or theirs is None:
        return None
    found: list[float] = []
    for one, other in zip(ours[:shared], theirs[:shared], strict=False):
        if one.text != other.text:
            break
        found.append(abs(one.logprob - other.logprob))
    return round(max(found), 6) if found else None


def _finish_reasons(baseline: Answer, candidate: Answer) -> tuple[str | None, str | None]:
    """Why each answer ended; where one side leaves calls in the text, calling is stopping."""
    reasons = (baseline.finish_reason, candidate.finish_reason)
    if None not in (baseline.tool_calls, candidate.tool_calls):
        return reasons
    ours, theirs = ("stop" if reason == "tool_calls" else reason for reason in reasons)
    return ours, theirs


def _calls(ours: ToolCalls | None, theirs: ToolCalls | None) -> Calls | None:
    if ours is None or theirs is None:
        return None
    one, other = _counted(ours), _counted(theirs)
    return Calls((one & other).total(), one.total(), other.total())


def _counted(calls: ToolCalls) -> Counter[tuple[str, str]]:
    return Counter((name, _normal(arguments)) for name, arguments in calls)


def _normal(arguments: str) -> str:
    """Arguments as a value: the order of keys and the blanks between them mean nothing."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments
