"""Differences in the setup of the two sides that may cause different answers.

Some of them show in the facts about the two sides, others only in the answers: a different chat
template, a different token limit, or a model that samples.
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


def causes_from_facts(baseline: Facts, candidate: Facts) -> list[Cause]:
    """The causes that show in the facts about the two sides."""
    return [
        _model(baseline, candidate),
        _compared("version", _engine_version(baseline), _engine_version(candidate)),
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
    note = "the same name; the weights behind it are not known"
    return Cause("model", Standing.UNKNOWN, cause.baseline, cause.candidate, note)


def _engine_version(facts: Facts) -> str | None:
    """Engine and version, without the build information after a plus sign."""
    if facts.engine is None or facts.version is None:
        return None
    return f"{facts.engine} {facts.version.partition('+')[0]}"


def _generation_config(baseline: Facts, candidate: Facts) -> Cause:
    """Whether defaults of the model can matter; they cannot if every request sends every value."""
    ours, theirs = _defaults(baseline), _defaults(candidate)
    if baseline.unsent or candidate.unsent:
        note = "the server's own defaults apply to values that are not sent"
        return Cause("generation_config", Standing.UNKNOWN, ours, theirs, note)
    note = "every sampling value is sent with every request"
    return Cause("generation_config", Standing.PINNED, ours, theirs, note)


def _defaults(facts: Facts) -> str:
    return f"not sent: {', '.join(facts.unsent)}" if facts.unsent else "overridden"


_TIE = 1e-4  # log-probabilities that differ by less count as equal
_MOST_IDS = 5


def causes_from_answers(baseline: Side, candidate: Side) -> list[Cause]:
    """The causes that show in two sets of answers to the same prompts."""
    return [
        chat_template(baseline, candidate),
        _sampling(baseline, candidate),
        _max_tokens(baseline, candidate),
    ]


def same_prompts(baseline: Side, candidate: Side) -> Cause:
    """Whether both sides were sent the same prompts."""
    theirs = {prompt.id: prompt.digest for prompt in candidate.prompts}
    different = [p.id for p in baseline.prompts if theirs.get(p.id) != p.digest]
    different += sorted(theirs.keys() - {p.id for p in baseline.prompts})
    counts = (f"{len(baseline.prompts)} prompts", f"{len(candidate.prompts)} prompts")
    if different:
        note = f"different on the two sides, or on one side only: {_first_ids(different)}"
        return Cause("prompts", Standing.MISMATCH, *counts, note)
    return Cause("prompts", Standing.EQUAL, *counts, "the same text, schemas, tools and limits")


def chat_template(baseline: Side, candidate: Side) -> Cause:
    """Whether both models got the same prompt tokens, which depend on template and tokenizer."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(baseline.answers, candidate.answers, strict=True)
        if ours.ok and theirs.ok
    ]
    known = [p for p in pairs if None not in (p[0].prompt_token_ids, p[1].prompt_token_ids)]
    tokens = [a.id for a, b in known if a.prompt_token_ids != b.prompt_token_ids]
    counts = [a.id for a, b in pairs if _counts_differ(a.prompt_tokens, b.prompt_tokens)]
    if tokens:
        what = f"different prompt tokens in {len(tokens)} of {len(known)} prompts"
        note = f"{what}: {_first_ids(tokens)}"
        return Cause("chat_template", Standing.MISMATCH, *_lengths(pairs, tokens[0]), note)
    if counts:
        note = f"different numbers of prompt tokens in {len(counts)} prompts: {_first_ids(counts)}"
        return Cause("chat_template", Standing.MISMATCH, *_lengths(pairs, counts[0]), note)
    if not pairs or len(known) < len(pairs):
        note = f"the prompt token ids of one side are missing in {len(pairs) - len(known)} prompts"
        return Cause("chat_template", Standing.UNKNOWN, note=note)
    note = f"the same prompt token ids in all {len(known)} prompts"
    return Cause("chat_template", Standing.EQUAL, "same tokens", "same tokens", note)


def _counts_differ(ours: int | None, theirs: int | None) -> bool:
    return ours is not None and theirs is not None and ours != theirs


def _lengths(pairs: Sequence[tuple[ParityAnswer, ParityAnswer]], id: str) -> tuple[str, str]:  # noqa: A002 - a prompt's own name
    ours, theirs = next(pair for pair in pairs if pair[0].id == id)
    return f"{ours.prompt_tokens} tokens in {id}", f"{theirs.prompt_tokens} tokens in {id}"


def _sampling(baseline: Side, candidate: Side) -> Cause:
    """Whether both sides were greedy: then every token of an answer was the likeliest one."""
    ours = _sampling_evidence("baseline", baseline)
    theirs = _sampling_evidence("candidate", candidate)
    for worst in (Standing.MISMATCH, Standing.UNKNOWN):
        if notes := [found.note for found in (ours, theirs) if found.standing is worst]:
            return Cause("sampling", worst, ours.value, theirs.value, "; ".join(notes))
    note = "every token was the likeliest one at its position"
    return Cause("sampling", Standing.EQUAL, ours.value, theirs.value, note)


@dataclass(frozen=True, slots=True)
class _SamplingEvidence:
    """What one side's answers show about its sampling."""

    standing: Standing
    value: str
    note: str = ""


def _sampling_evidence(role: str, side: Side) -> _SamplingEvidence:
    if overrides := side.facts.overrides:
        sent = ", ".join(f"{name}={value}" for name, value in overrides.items())
        note = f"the {role}'s configuration sends {sent}"
        return _SamplingEvidence(Standing.MISMATCH, sent, note)
    checked, unlikely = 0, []
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        if prompt.is_plain and answer.tokens:
            checked += 1
            if any(_is_unlikely(token) for token in answer.tokens):
                unlikely.append(prompt.id)
    if unlikely:
        what = f"did not choose its likeliest token in {len(unlikely)} of {checked} answers"
        note = f"the {role} {what}: {_first_ids(unlikely)}"
        return _SamplingEvidence(Standing.MISMATCH, "not greedy", note)
    if not checked:
        note = f"the {role} returned no log-probabilities, which would show it"
        return _SamplingEvidence(Standing.UNKNOWN, "greedy was requested", note)
    return _SamplingEvidence(Standing.EQUAL, "greedy")


def _is_unlikely(token: Token) -> bool:
    return token.logprob < token.best - _TIE


def _max_tokens(baseline: Side, candidate: Side) -> Cause:
    """Whether the token limit was applied: an answer that was cut has as many tokens as that."""
    found = [_wrong_lengths(baseline), _wrong_lengths(candidate)]
    if any(found):
        ours, theirs = ("a different limit" if wrong else "as requested" for wrong in found)
        listed = [f"{name}: {text}" for wrong in found for name, text in wrong.items()]
        note = f"{len(listed)} answers have a different length: {_first_ids(listed)}"
        return Cause("max_tokens", Standing.MISMATCH, ours, theirs, note)
    if not (_reaches_limit(baseline) and _reaches_limit(candidate)):
        note = "one side has no answer that reached its limit and whose tokens are counted"
        return Cause("max_tokens", Standing.UNKNOWN, note=note)
    note = "every answer that was cut has as many tokens as its limit"
    return Cause("max_tokens", Standing.EQUAL, "as requested", "as requested", note)


def _wrong_lengths(side: Side) -> Mapping[str, str]:
    """The lengths of answers that were not cut at their limit, by the ids of their prompts."""
    found = {}
    for prompt, answer in zip(side.prompts, side.answers, strict=True):
        count = _count(answer)
        if count is None:
            continue
        was_cut = answer.finish_reason == "length"
        if count > prompt.max_tokens or (was_cut and count < prompt.max_tokens):
            context = _context_note(side.facts, answer, count)
            found[prompt.id] = f"{count} of {prompt.max_tokens} tokens{context}"
    return found


def _context_note(facts: Facts, answer: ParityAnswer, count: int) -> str:
    full = facts.context is not None and (answer.prompt_tokens or 0) + count >= facts.context
    return f", cut by the context of {facts.context}" if full else ""


def _reaches_limit(side: Side) -> bool:
    return any(a.finish_reason == "length" and _count(a) is not None for a in side.answers)


def _count(answer: ParityAnswer) -> int | None:
    if answer.completion_tokens is not None:
        return answer.completion_tokens
    return len(answer.token_ids) if answer.token_ids is not None else None


def _first_ids(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
    return ", ".join(ids[:_MOST_IDS]) + more
