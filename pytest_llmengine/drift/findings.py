"""What needs no statistics: contradictions in an answer, and what the server itself says.

A gateway that cuts, swaps or stores answers often changes one field and leaves the others. But
some servers contradict themselves all the time, for instance since they strip spaces or count
hidden tokens. So a kind of contradiction that the baseline has as well says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.drift.answers import RoundKind
from pytest_llmengine.drift.evidence import EVIDENCE
from pytest_llmengine.drift.report import DriftFinding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_llmengine.drift.answers import DriftAnswer, DriftPrompt, DriftSession
    from pytest_llmengine.drift.baseline import Baseline, DriftFacts

TextOfId = Mapping[int, str]
"""The text of each token id, as far as the baseline shows it."""

Contradiction = Callable[["DriftAnswer"], str]
"""Says in words what an answer contradicts; "" if nothing."""

_SHOWN = 3  # findings of one kind; one more says how many there are
_ROUNDING = 1e-3  # of a log-probability that is written twice
_INCOMPLETE = "\\x"  # in the text of a token that ends within a character


def find(
    baseline: Baseline, candidate: Sequence[DriftSession], facts: DriftFacts | None
) -> list[DriftFinding]:
    """Everything that is found without statistics."""
    found = [*_contradictions(baseline, candidate), *_no_longer_shown(baseline, candidate)]
    return found if facts is None else [*found, *_stated(baseline.facts, facts)]


def _contradictions(
    baseline: Baseline, candidate: Sequence[DriftSession]
) -> Iterator[DriftFinding]:
    ours = [answer for session in baseline.sessions for answer in session.answers]
    theirs = [answer for session in candidate for answer in session.answers]
    for name, contradiction in _all_contradictions(baseline.probe.prompts, ours).items():
        if any(map(contradiction, ours)):
            continue
        found = [(answer, detail) for answer in theirs if (detail := contradiction(answer))]
        for answer, detail in found[:_SHOWN]:
            prompt = baseline.probe.prompts[answer.prompt].text
            yield DriftFinding(name=name, detail=detail, prompt=prompt)
        if len(found) > _SHOWN:
            yield DriftFinding(name=name, detail=f"in {len(found)} of {len(theirs)} answers")


def _all_contradictions(
    prompts: Sequence[DriftPrompt], baseline: Sequence[DriftAnswer]
) -> dict[str, Contradiction]:
    return {
        "the answer to another prompt": partial(_to_another, _prompts_of(prompts, baseline)),
        "an end at the limit before the limit": partial(_limit_and_usage, prompts),
        "the id of an earlier answer": _repeated,
        "the text is not what its tokens say": _text_and_tokens,
        "the text is not what its token ids say": partial(_text_and_ids, _text_of_id(baseline)),
        "the text is empty although tokens are counted": _text_and_usage,
        "the usage is not the number of tokens": _tokens_and_usage,
        "two log-probabilities of one token": _logprob_and_top,
    }


def _text_of_id(answers: Iterable[DriftAnswer]) -> dict[int, str]:
    """The text of each token id, from answers of one token."""
    texts: dict[int, set[str]] = {}
    for answer in answers:
        if answer.token_ids and len(answer.token_ids) == 1:
            texts.setdefault(answer.token_ids[0], set()).add(answer.text)
    return {number: text.pop() for number, text in texts.items() if len(text) == 1}


def _prompts_of(
    prompts: Sequence[DriftPrompt], answers: Iterable[DriftAnswer]
) -> dict[Hashable, set[int]]:
    """The prompts that have each answer, for answers that tell which prompt they belong to."""
    found: dict[Hashable, set[int]] = {}
    for answer in answers:
        is_long = prompts[answer.prompt].kind is RoundKind.LONG
        for mark in (_likeliest(answer), answer.text if is_long else None):
            if mark is not None and _is_cut_at_limit(answer):
                found.setdefault(mark, set()).add(answer.prompt)
    return found


def _likeliest(answer: DriftAnswer) -> Hashable:
    return None if answer.top is None else tuple(answer.top.items())


def _to_another(known: Mapping[Hashable, set[int]], answer: DriftAnswer) -> str:
    for mark in (_likeliest(answer), answer.text):
        owners = known.get(mark, {answer.prompt})
        if answer.prompt not in owners:
            return f"the text is {answer.text!r}, an answer to prompt {min(owners) + 1}"
    return ""


def _repeated(answer: DriftAnswer) -> str:
    return "it was given to an earlier request" if answer.repeated else ""


def _limit_and_usage(prompts: Sequence[DriftPrompt], answer: DriftAnswer) -> str:
    limit, counted = prompts[answer.prompt].max_tokens, answer.completion_tokens
    if counted is None or counted >= limit or not _is_cut_at_limit(answer):
        return ""
    return f"{counted} tokens are counted, and the limit is {limit}"


def _is_cut_at_limit(answer: DriftAnswer) -> bool:
    """Whether the answer ends at its limit; else its last token may be one without a text."""
    return answer.finish_reason == "length"


def _text_and_tokens(answer: DriftAnswer) -> str:
    if not answer.tokens or not _is_cut_at_limit(answer):
        return ""
    said = "".join(answer.tokens)
    if _INCOMPLETE in said or said.strip() == answer.text.strip():
        return ""
    return f"the text is {answer.text!r}, and its tokens are {said!r}"


def _text_and_ids(texts: TextOfId, answer: DriftAnswer) -> str:
    if answer.token_ids is None or len(answer.token_ids) != 1 or not _is_cut_at_limit(answer):
        return ""
    said = texts.get(answer.token_ids[0], answer.text)
    if said == answer.text:
        return ""
    return f"the text is {answer.text!r}, and the text of its id in the baseline is {said!r}"


def _text_and_usage(answer: DriftAnswer) -> str:
    if answer.text or not answer.completion_tokens or not _is_cut_at_limit(answer):
        return ""
    if _INCOMPLETE in "".join(answer.tokens or ()):  # a part of a character has no text
        return ""
    return f"the answer ends at its limit with {answer.completion_tokens} tokens"


def _tokens_and_usage(answer: DriftAnswer) -> str:
    shown = answer.tokens if answer.token_ids is None else answer.token_ids
    counted = answer.completion_tokens
    if shown is None or counted is None or not _is_cut_at_limit(answer) or len(shown) == counted:
        return ""
    return f"{counted} tokens are counted, and {len(shown)} are shown"


def _logprob_and_top(answer: DriftAnswer) -> str:
    if not answer.tokens or not answer.logprobs or not answer.top:
        return ""
    token, chosen = answer.tokens[0], answer.logprobs[0]
    listed = answer.top.get(token, chosen)
    if abs(listed - chosen) <= _ROUNDING:
        return ""
    return f"{token!r} has {chosen:g}, and {listed:g} in the list of the likeliest tokens"


def _no_longer_shown(
    baseline: Baseline, candidate: Sequence[DriftSession]
) -> Iterator[DriftFinding]:
    for evidence in EVIDENCE:
        if evidence.if_missing:
            continue
        has_rounds = any(session.of_kind(evidence.kind) for session in candidate)
        if has_rounds and evidence.is_shown(baseline.sessions) > evidence.is_shown(candidate):
            yield DriftFinding(
                name=f"{evidence.name}: no longer shown",
                detail="the baseline's answers have it, and no answer of the candidate",
            )


_STATED = {"weights": "other weights", "context": "another context"}


def _stated(baseline: DriftFacts, candidate: DriftFacts) -> Iterator[DriftFinding]:
    """Facts that two servers of one program state differently."""
    if (baseline.backend, baseline.server) != (candidate.backend, candidate.server):
        return
    for field, name in _STATED.items():
        ours, theirs = getattr(baseline, field), getattr(candidate, field)
        if ours and theirs and ours != theirs:
            yield DriftFinding(
                name=name, detail=f"the server states {theirs}; it was {ours} for the baseline"
            )
