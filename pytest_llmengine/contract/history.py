"""The history of tagged requests: which answers belong to another request.

Each request has a tag of six digits that its answer must hold. First some requests are sent one by
one: they show which answers the model and the server can be held to. Then many are sent at once.
Everything here is a pure function of the history.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_TAG = re.compile(r"(?<!\d)\d{6}(?!\d)")
_LONGEST_DELAY = 3
_TOO_MANY_LOST = 0.25


@dataclass(frozen=True, slots=True)
class TaggedAnswer:
    """What one request asked for and what came.

    ``form`` names what was asked for, such as "a stream". Of the requests of one form, those of a
    greater ``length`` have longer prompts. ``texts`` are the texts of the choices, ``arguments``
    those of tool calls, and ``logprobs`` the joined tokens of each choice's log-probabilities.
    ``ids`` are the ids of all chunks. ``ended`` is False if the client went away, or if a token
    limit cut the answer. ``forced`` says that a schema or a tool allows only one answer.
    """

    number: int
    tag: str
    form: str
    length: int = 1
    texts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    logprobs: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    ended: bool = True
    forced: bool = False

    @property
    def own(self) -> bool:
        """Whether each choice holds the request's own tag, in its tool call or else its text."""
        parts = self.arguments or self.texts
        return bool(parts) and all(self.tag in _TAG.findall(part) for part in parts)

    @property
    def tags(self) -> set[str]:
        """All numbers of six digits in the answer."""
        return set(_TAG.findall("\n".join((*self.texts, *self.arguments, *self.logprobs))))


@dataclass(frozen=True, slots=True)
class Leak:
    """An answer that does not belong to its request, and how this is known."""

    answer: TaggedAnswer
    reason: str


@dataclass(frozen=True, slots=True)
class Signals:
    """What can be told from an answer of this model on this server.

    ``forms`` are the forms in which each answer that came alone held its own tag. ``tokens`` are
    the prompt_tokens of each form and length. ``logprobs`` says whether the log-probabilities of
    answers join to their text, and ``ids`` whether all chunks of a stream have one id.
    """

    forms: frozenset[str] = frozenset()
    tokens: Mapping[tuple[str, int], range] = field(default_factory=dict)
    logprobs: bool = False
    ids: bool = False

    def __bool__(self) -> bool:
        return bool(self.forms or self.tokens)

    def __str__(self) -> str:
        used = [f"the tag in {form}" for form in sorted(self.forms)]
        used += ["prompt_tokens"] if self.tokens else []
        used += ["the tokens of log-probabilities"] if self.logprobs else []
        used += ["the ids of chunks"] if self.ids else []
        return ", ".join(used) or "nothing"


NOTHING_KNOWN = Signals()


def signals(alone: Sequence[TaggedAnswer]) -> Signals:
    """What can be told from answers, by those to requests that were sent one by one."""
    forms = _by_form(alone)
    joined = [a.logprobs == a.texts for a in alone if a.logprobs and a.ended]
    return Signals(
        frozenset(own[0].form for own in forms if all(answer.own for answer in own)),
        {key: tokens for own in forms for key, tokens in _prompt_tokens(own).items()},
        bool(joined) and all(joined),
        all(len(set(answer.ids)) < 2 for answer in alone),
    )


def delay(alone: Sequence[TaggedAnswer]) -> int:
    """By how many requests the prompt_tokens come late, for requests that were sent one by one.

    It is 0 if they come at once, and if they say nothing.
    """
    for own in _by_form(alone):
        if _prompt_tokens(own):
            continue
        for late in range(1, _LONGEST_DELAY + 1):
            pairs = zip(own, own[late:], strict=False)
            if _prompt_tokens([replace(a, prompt_tokens=b.prompt_tokens) for a, b in pairs]):
                return late
    return 0


def _by_form(answers: Iterable[TaggedAnswer]) -> list[list[TaggedAnswer]]:
    groups = defaultdict(list)
    for answer in answers:
        groups[answer.form].append(answer)
    return list(groups.values())


def _prompt_tokens(alone: Iterable[TaggedAnswer]) -> dict[tuple[str, int], range]:
    """The prompt_tokens of each length of one form; empty if they do not grow with the length.

    A length must have come twice, because otherwise they might grow by chance.
    """
    seen: dict[tuple[str, int], list[int]] = defaultdict(list)
    for answer in alone:
        if answer.prompt_tokens is not None:
            seen[answer.form, answer.length].append(answer.prompt_tokens)
    repeated = any(len(found) > 1 for found in seen.values())
    grow = all(max(seen[a]) < min(seen[b]) for a, b in pairwise(sorted(seen)))
    if not repeated or len(seen) < 2 or not grow:
        return {}
    return {key: range(min(found), max(found) + 1) for key, found in seen.items()}


def leaks(history: Sequence[TaggedAnswer], known: Signals = NOTHING_KNOWN) -> list[Leak]:
    """The answers that do not belong to their requests, in the order of the history.

    Without `known` signals, only the tag of another request is found.
    """
    owners = {answer.tag: answer for answer in history}
    found = [
        Leak(answer, reason)
        for answer in history
        if (reason := next(_reasons(answer, owners, known), ""))
    ]
    return found or _without_tags(history, known)


_GONE = ", whose client went away"


def _reasons(
    answer: TaggedAnswer, owners: Mapping[str, TaggedAnswer], known: Signals
) -> Iterator[str]:
    for tag in sorted(answer.tags - {answer.tag}):
        if tag in owners:
            yield f"holds the tag of another request{'' if owners[tag].ended else _GONE}"
    if known.ids and len(set(answer.ids)) > 1:
        yield "is a stream whose chunks have several ids"
    if known.logprobs and answer.ended and answer.logprobs not in {(), answer.texts}:
        yield "has log-probabilities whose tokens are not those of the text"
    if _has_tokens_of_another(answer, known):
        yield "has the prompt_tokens of another prompt"
    if answer.forced and answer.form in known.forms and answer.ended and not answer.own:
        yield "is not the only answer that the request allows"


def _has_tokens_of_another(answer: TaggedAnswer, known: Signals) -> bool:
    """Whether the prompt_tokens are those of a prompt of the same form and another length."""
    own, came = known.tokens.get((answer.form, answer.length)), answer.prompt_tokens
    if own is None or came is None or came in own:
        return False
    return any(came in found for (form, _), found in known.tokens.items() if form == answer.form)


def _without_tags(history: Sequence[TaggedAnswer], known: Signals) -> list[Leak]:
    """The answers without their tag, if there are too many of one form for the model's mistakes."""
    found = []
    for form in sorted(known.forms):
        ended = [answer for answer in history if answer.form == form and answer.ended]
        lost = [answer for answer in ended if not answer.own]
        if len(lost) > max(2, _TOO_MANY_LOST * len(ended)):
            found += [Leak(answer, "does not hold its tag, which it does alone") for answer in lost]
    return found
