"""Answers that contradict themselves: their text, tokens, ids and usage do not fit together.

A server may legitimately return another text than its tokens spell: it removes the end token,
white space, tool calls and reasoning. So what is normal is learnt from the answers to the same kind
of prompts that ended for the same reason. If the baseline's answers all agree, and most of the
candidate's agree with each other, then those of the candidate's that are like neither contradict
themselves. If they do not agree, nothing is said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_llmengine.parity.answers import ParityAnswer, Token
    from pytest_llmengine.parity.side import Side

    Relation = Callable[[ParityAnswer], str | None]

_TIE = 1e-4  # log-probabilities that differ by less count as equal
_PART_OF_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What does not fit together in one answer of the candidate."""

    id: str
    what: str

    def describe(self) -> str:
        """The prompt and the contradiction."""
        return f"{self.id}: {self.what}"


def contradictions_of(baseline: Side, candidate: Side) -> tuple[Contradiction, ...]:
    """The contradictions in the candidate's answers, in the order of the prompts."""
    by_ids, by_id = _answer_texts(baseline), _token_texts(baseline)
    relations: tuple[Relation, ...] = (
        lambda answer: _text_and_ids(answer, by_ids),
        lambda answer: _text_and_tokens(answer, by_id),
        _ids_and_usage,
        _ids_and_tokens,
        _chosen_token,
    )
    found = [one for relation in relations for one in _exceptions(baseline, candidate, relation)]
    order = {prompt.id: place for place, prompt in enumerate(candidate.prompts)}
    once = list(dict.fromkeys(found))
    return tuple(sorted(once, key=lambda one: order[one.id]))


def _answers(side: Side) -> Iterator[tuple[tuple[str, str | None], ParityAnswer]]:
    """The answers of every pass, with the kind of their prompts and the reason of their end."""
    for place, prompt in enumerate(side.prompts):
        for answer in side.known_answers_to(place):
            if answer.ok:
                yield (prompt.kind, answer.finish_reason), answer


def _exceptions(baseline: Side, candidate: Side, relation: Relation) -> Iterator[Contradiction]:
    """The candidate's answers in which a relation is another than normal."""
    ours = _counts(baseline, relation)
    theirs = _counts(candidate, relation)
    for key, answer in _answers(candidate):
        if (seen := relation(answer)) is None or len(ours.get(key, ())) != 1:
            continue
        usual, number = theirs[key].most_common(1)[0]
        if 2 * number > theirs[key].total() and seen != usual and seen not in ours[key]:
            yield Contradiction(answer.id, f"{seen}; usually, {usual}")


def _counts(side: Side, relation: Relation) -> Mapping[tuple[str, str | None], Counter[str]]:
    found: dict[tuple[str, str | None], Counter[str]] = {}
    for key, answer in _answers(side):
        if (seen := relation(answer)) is not None:
            found.setdefault(key, Counter())[seen] += 1
    return found


def _answer_texts(side: Side) -> Mapping[tuple[str, tuple[int, ...]], set[str]]:
    """The texts of a side's answers to each prompt, by their token ids."""
    found: dict[tuple[str, tuple[int, ...]], set[str]] = {}
    for _, answer in _answers(side):
        if answer.token_ids and _is_plain(answer):
            found.setdefault((answer.id, answer.token_ids), set()).add(answer.text)
    return found


def _text_and_ids(
    answer: ParityAnswer, texts: Mapping[tuple[str, tuple[int, ...]], set[str]]
) -> str | None:
    """How the text relates to that of the baseline's answer with the same token ids."""
    known = texts.get((answer.id, answer.token_ids or ()), set())
    if len(known) != 1 or not _is_plain(answer):
        return None
    if answer.text in known:
        return "the text is that of the baseline for these token ids"
    return "the token ids are those of the baseline, and the text is not"


def _is_plain(answer: ParityAnswer) -> bool:
    """Whether the text is the whole answer; not all servers take calls and reasoning out of it."""
    return answer.ok and not answer.tool_calls and answer.reasoning is None


def _token_texts(side: Side) -> Mapping[int, str]:
    """The text of each token id in the answers of a side, if it is the same everywhere."""
    found: dict[int, set[str]] = {}
    for _, answer in _answers(side):
        ids, tokens = answer.token_ids or (), answer.tokens or ()
        if len(ids) == len(tokens):
            for number, token in zip(ids, tokens, strict=True):
                found.setdefault(number, set()).add(token.text)
    return {number: next(iter(texts)) for number, texts in found.items() if len(texts) == 1}


def _text_and_tokens(answer: ParityAnswer, texts: Mapping[int, str]) -> str | None:
    """How the text relates to the texts of the tokens, or to those that the baseline has for ids.

    None if these are unknown, or if a token is a part of a character.
    """
    parts = _parts(answer, texts)
    if parts is None or not _is_plain(answer):
        return None
    spelled = "".join(parts)
    if _PART_OF_CHARACTER in answer.text or _PART_OF_CHARACTER in spelled:
        return None
    if spelled.strip() == answer.text.strip():
        return "the text is that of the tokens"
    if "".join(parts[:-1]).strip() == answer.text.strip():
        return "the text is that of the tokens without the last one"
    return "the text is not that of the tokens"


def _parts(answer: ParityAnswer, texts: Mapping[int, str]) -> Sequence[str] | None:
    if answer.tokens is not None:
        return [token.text for token in answer.tokens]
    if answer.token_ids is None or not all(number in texts for number in answer.token_ids):
        return None
    return [texts[number] for number in answer.token_ids]


def _ids_and_usage(answer: ParityAnswer) -> str | None:
    if answer.token_ids is None or answer.completion_tokens is None:
        return None
    return _difference(
        len(answer.token_ids), "token ids", answer.completion_tokens, "tokens of usage"
    )


def _ids_and_tokens(answer: ParityAnswer) -> str | None:
    if answer.token_ids is None or answer.tokens is None:
        return None
    return _difference(len(answer.token_ids), "token ids", len(answer.tokens), "log-probabilities")


def _difference(count: int, what: str, other: int, others: str) -> str:
    if count == other:
        return f"there are as many {what} as {others}"
    more = "more" if count > other else "fewer"
    return f"there are {abs(count - other)} {more} {what} than {others}"


def _chosen_token(answer: ParityAnswer) -> str | None:
    """Whether each chosen token has its log-probability in the list, or is less likely than it."""
    if not answer.tokens or not all(token.top for token in answer.tokens):
        return None
    if all(map(_fits, answer.tokens)):
        return "the log-probabilities of chosen tokens fit the likeliest ones"
    return "the log-probability of a chosen token does not fit the likeliest ones"


def _fits(token: Token) -> bool:
    values = [value for _, value in token.top]
    return token.logprob <= min(values) or any(abs(v - token.logprob) <= _TIE for v in values)
