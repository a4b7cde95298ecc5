"""Causes of different answers that lie in the setup of the sides, not in how they compute.

Some causes show in the facts about the two sides, others only in the answers: another chat
template, another token limit, or a model that samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_llmengine.parity.answers import ParityAnswer, Token
    from pytest_llmengine.parity.setup import Facts
    from pytest_llmengine.parity.side import Side


class Standing(StrEnum):
    """What is known about one cause."""

    EQUAL = "equal"
    PINNED = "pinned"  # every request sends the value to both sides
    UNKNOWN = "unknown"
    MISMATCH = "mismatch"
    ALLOWED = "allowed"  # a mismatch that the user has allowed


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause with its value on each side; ``note`` says what was examined."""

    name: str
    standing: Standing
    baseline: str = "unknown"
    candidate: str = "unknown"
    note: str = ""


NAMES = (
    "model",
    "version",
    "dtype",
    "prefix_caching",
    "batch_invariance",
    "generation_config",
    "sampling",
    "chat_template",
    "max_tokens",
)
"""The causes that a user may allow to differ; different prompts can never be allowed."""


def of_facts(baseline: Facts, candidate: Facts) -> list[Cause]:
    """The causes that show in the facts about the two sides."""
    return [
        _model(baseline, candidate),
        _compared("version", _release(baseline), _release(candidate)),
        _compared("dtype", baseline.dtype, candidate.dtype),
        _compared("prefix_caching", baseline.prefix_caching, candidate.prefix_caching),
        _compared("batch_invariance", baseline.batch_invariance, candidate.batch_invariance),
        _generation_config(baseline, candidate),
    ]


def allow(causes: Iterable[Cause], names: Iterable[str]) -> list[Cause]:
    """The causes, with mismatches of these names marked as allowed."""
    allowed = frozenset(names)
    return [_allowed(cause) if cause.name in allowed else cause for cause in causes]


def mismatches(causes: Iterable[Cause]) -> list[Cause]:
    """The causes that forbid a comparison."""
    return [cause for cause in causes if cause.standing is Standing.MISMATCH]


def _allowed(cause: Cause) -> Cause:
    if cause.standing is not Standing.MISMATCH:
        return cause
    return Cause(cause.name, Standing.ALLOWED, cause.baseline, cause.candidate, cause.note)


def _compared(name: str, ours: str | None, theirs: str | None, note: str = "") -> Cause:
    if ours is None or theirs is None:
        return Cause(name, Standing.UNKNOWN, ours or "unknown", theirs or "unknown", note)
    standing = Standing.EQUAL if ours == theirs else Standing.MISMATCH
    return Cause(name, standing, ours, theirs, note)


def _model(baseline: Facts, candidate: Facts) -> Cause:
    """Whether the models are the same.

    Servers with the same model name may have different weights; different names are a mismatch.
    """
    if baseline.weights is not None and candidate.weights is not None:
        return _compared("model", baseline.weights, candidate.weights, "the name of the weights")
    cause = _compared(
        "model", baseline.model, candidate.model, "the name that the server was given"
    )
    if cause.standing is not Standing.EQUAL:
        return cause
    note = "the same name; which weights are behind it cannot be seen"
    return Cause("model", Standing.UNKNOWN, cause.baseline, cause.candidate, note)


def _release(facts: Facts) -> str | None:
    """Engine and version, without the build information after a plus sign."""
    if facts.engine is None or facts.version is None:
        return None
    return f"{facts.engine} {facts.version.partition('+')[0]}"


def _generation_config(baseline: Facts, candidate: Facts) -> Cause:
    """Whether defaults of the model can matter; they cannot if every request sends every value."""
    ours, theirs = _defaults(baseline), _defaults(candidate)
    if baseline.unsent or candidate.unsent:
        note = "what is not sent is left to the server's own defaults"
        return Cause("generation_config", Standing.UNKNOWN, ours, theirs, note)
    note = "every sampling value is sent with every request"
    return Cause("generation_config", Standing.PINNED, ours, theirs, note)


def _defaults(facts: Facts) -> str:
    return f"not sent: {', '.join(facts.unsent)}" if facts.unsent else "overruled"


_TIE = 1e-4  # log-probabilities that differ by less count as equal
_SHOWN = 5


def of_answers(baseline: Side, candidate: Side) -> list[Cause]:
    """The causes that show in two sets of answers to the same prompts."""
    return [
        chat_template(baseline, candidate),
        _sampling(baseline, candidate),
        _max_tokens(baseline, candidate),
    ]


def same_prompts(baseline: Side, candidate: Side) -> Cause:
    """Whether both sides were sent the same prompts."""
    theirs = {prompt.id: prompt.digest for prompt in candidate.prompts}
    other = [p.id for p in baseline.prompts if theirs.get(p.id) != p.digest]
    more = sorted(theirs.keys() - {p.id for p in baseline.prompts})
    shown = (f"{len(baseline.prompts)} prompts", f"{len(candidate.prompts)} prompts")
    if other or more:
        note = f"asked differently, or of one side only: {_listed(other + more)}"
        return Cause("prompts", Standing.MISMATCH, *shown, note)
    return Cause("prompts", Standing.EQUAL, *shown, "the same text, schemas, tools and limits")


def chat_template(baseline: Side, candidate: Side) -> Cause:
    """Whether both models got the same prompt tokens, which depend on template and tokenizer."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(baseline.answers, candidate.answers, strict=True)
        if ours.ok and theirs.ok
    ]
    seen = [p for p in pairs if None not in (p[0].prompt_token_ids, p[1].prompt_token_ids)]
    other = [a.id for a, b in seen if a.prompt_token_ids != b.prompt_token_ids]
    counted = [a.id for a, b in pairs if _another_count(a.prompt_tokens, b.prompt_tokens)]
    if other:
        note = f"other prompt tokens in {len(other)} of {len(seen)} prompts: {_listed(other)}"
        return Cause("chat_template", Standing.MISMATCH, *_lengths(pairs, other[0]), note)
    if counted:
        note = f"another number of prompt tokens in {len(counted)} prompts: {_listed(counted)}"
        return Cause("chat_template", Standing.MISMATCH, *_lengths(pairs, counted[0]), note)
    if not pairs or len(seen) < len(pairs):
        note = f"no prompt token ids from both sides in {len(pairs) - len(seen)} prompts"
        return Cause("chat_template", Standing.UNKNOWN, note=note)
    note = f"the same prompt token ids in all {len(seen)} prompts"
    return Cause("chat_template", Standing.EQUAL, "same tokens", "same tokens", note)


def _another_count(ours: int | None, theirs: int | None) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def _lengths(pairs: Sequence[tuple[ParityAnswer, ParityAnswer]], id: str) -> tuple[str, str]:  # noqa: A002 - a prompt's own name
    ours, theirs = next(pair for pair in pairs if pair[0].id == id)
    return f"{ours.prompt_tokens} tokens in {id}", f"{theirs.prompt_tokens} tokens in {id}"


def _sampling(baseline: Side, candidate: Side) -> Cause:
    """Whether both sides were greedy: then every token of an answer was the likeliest one."""
    ours, theirs = _chosen("baseline", baseline), _chosen("candidate", candidate)
    for worst in (Standing.MISMATCH, Standing.UNKNOWN):
        if notes := [seen.note for seen in (ours, theirs) if seen.standing is worst]:
            return Cause("sampling", worst, ours.shown, theirs.shown, "; ".join(notes))
    note = "every token was the likeliest of its place"
    return Cause("sampling", Standing.EQUAL, ours.shown, theirs.shown, note)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one side's answers show about its sampling."""

    standing: Standing
    shown: str
    note: str = ""


def _chosen(role: str, side: Side) -> _Seen:
    if overrides := side.facts.overrides:
        sent = ", ".join(f"{name}={value}" for name, value in overrides.items())
        return _Seen(Standing.MISMATCH, sent, f"the {role}'s configuration sends {sent}")
    checked, unlikely = 0, []
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        if prompt.is_plain and answer.tokens:
            checked += 1
            if any(_is_unlikely(token) for token in answer.tokens):
                unlikely.append(prompt.id)
    if unlikely:
        what = f"chose another token than its likeliest in {len(unlikely)} of {checked} answers"
        return _Seen(Standing.MISMATCH, "not greedy", f"the {role} {what}: {_listed(unlikely)}")
    if not checked:
        note = f"the {role} gave no log-probabilities to tell it by"
        return _Seen(Standing.UNKNOWN, "greedy was asked", note)
    return _Seen(Standing.EQUAL, "greedy")


def _is_unlikely(token: Token) -> bool:
    return token.logprob < token.best - _TIE


def _max_tokens(baseline: Side, candidate: Side) -> Cause:
    """Whether the token limit was kept: an answer that was cut has as many tokens as requested."""
    found = [_cut_elsewhere(baseline), _cut_elsewhere(candidate)]
    if any(found):
        ours, theirs = ("another limit" if wrong else "as asked" for wrong in found)
        listed = [f"{name}: {text}" for wrong in found for name, text in wrong.items()]
        note = f"{len(listed)} answers have another length: {_listed(listed)}"
        return Cause("max_tokens", Standing.MISMATCH, ours, theirs, note)
    if not (_was_cut(baseline) and _was_cut(candidate)):
        note = "no answer of one side reached its limit with its tokens counted"
        return Cause("max_tokens", Standing.UNKNOWN, note=note)
    note = "every answer that was cut has as many tokens as were asked for"
    return Cause("max_tokens", Standing.EQUAL, "as asked", "as asked", note)


def _cut_elsewhere(side: Side) -> Mapping[str, str]:
    found = {}
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        count = _count(answer)
        if count is None:
            continue
        was_cut = answer.finish_reason == "length"
        if count > prompt.max_tokens or (was_cut and count < prompt.max_tokens):
            context = _context(side.facts, answer, count)
            found[prompt.id] = f"{count} of {prompt.max_tokens} tokens{context}"
    return found


def _context(facts: Facts, answer: ParityAnswer, count: int) -> str:
    full = facts.context is not None and (answer.prompt_tokens or 0) + count >= facts.context
    return f", cut by the context of {facts.context}" if full else ""


def _was_cut(side: Side) -> bool:
    return any(a.finish_reason == "length" and _count(a) is not None for a in side.answers)


def _count(answer: ParityAnswer) -> int | None:
    if answer.completion_tokens is not None:
        return answer.completion_tokens
    return len(answer.token_ids) if answer.token_ids is not None else None


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
