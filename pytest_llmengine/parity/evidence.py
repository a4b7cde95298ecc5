"""The kinds of evidence that two sides are compared by, each as distances between answers.

Each kind of evidence is compared by itself, since each may change alone: a gateway that cuts texts
leaves token ids as they are. A prompt is left out of one kind of evidence if an answer to it does
not have it, on whichever side and in whichever pass.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_llmengine.parity.pairs import first_difference, normalized_arguments
from pytest_llmengine.parity.schedule import places_by_group
from pytest_llmengine.statistics import Stratum, logprob_distance

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

    from pytest_llmengine.parity.answers import ParityAnswer, Token
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.statistics.two_sample import Logprobs

    Matrix = Sequence[Sequence[float]]
    Values = Sequence[Hashable] | None
    Answers = Sequence[ParityAnswer]

LOGPROBS = "log-probabilities"
"""The kind of evidence whose distances are nats per token; others are equal or not."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of passes of the baseline and of the candidate that are compared.

    ``sent`` is how many passes the candidate has, without those over some groups only.
    """

    baseline: int
    candidate: int
    sent: int

    @property
    def passes(self) -> tuple[int, int]:
        """The passes of both sides that are compared."""
        return self.baseline, self.candidate


@dataclass(frozen=True, slots=True)
class ParityEvidence:
    """One kind of evidence: the distances between all answers to each prompt that shows it.

    ``distances`` has a matrix by the place of the prompt; the first ``own`` answers are those of
    the baseline. ``groups`` has the places of the prompts by their group.
    """

    name: str
    distances: Mapping[int, Matrix]
    own: Mapping[int, int]
    groups: Mapping[int, Sequence[int]]
    sizes: Sizes

    @property
    def of(self) -> int:
        """The number of prompts that are compared."""
        return len(self.distances)

    @property
    def is_share(self) -> bool:
        """Whether answers are equal or not, so that a change is a share of the answers."""
        return self.name != LOGPROBS

    def strata(self) -> dict[int, Stratum]:
        """The groups as strata of passes, each with the same number of passes."""
        return {
            group: self.stratum(places, self.sizes.candidate)
            for group, places in self.groups.items()
        }

    def repeated(self) -> dict[int, Stratum]:
        """The groups that the candidate was sent more often than the others, with all passes."""
        found = {}
        for group, places in self.groups.items():
            candidate = min(len(self.distances[place]) - self.own[place] for place in places)
            if candidate > self.sizes.sent:
                found[group] = self.stratum(places, candidate)
        return found

    def stratum(self, places: Sequence[int], candidate: int) -> Stratum:
        """Passes over these prompts as a stratum, with so many passes of the candidate."""
        baseline = self.sizes.baseline
        size = baseline + candidate
        sums = [[0.0] * size for _ in range(size)]
        for place in places:
            kept = [*range(baseline), *range(self.own[place], self.own[place] + candidate)]
            rows = self.distances[place]
            for i, j in combinations(range(size), 2):
                sums[i][j] += rows[kept[i]][kept[j]]
                sums[j][i] = sums[i][j]
        return Stratum(sums, baseline)

    def across(self, place: int) -> float:
        """The mean distance of the candidate's answers to a prompt from the baseline's."""
        own, rows = self.own[place], self.distances[place]
        values = [value for row in rows[:own] for value in row[own:]]
        return sum(values) / len(values)

    def within(self, place: int) -> float | None:
        """The mean distance between the baseline's answers; None if there is only one."""
        own, rows = self.own[place], self.distances[place]
        values = [rows[i][j] for i, j in combinations(range(own), 2)]
        return sum(values) / len(values) if values else None


def _groups(groups: Mapping[int, Sequence[int]], kept: Collection[int]) -> dict[int, Sequence[int]]:
    found = {group: [p for p in places if p in kept] for group, places in groups.items()}
    return {group: places for group, places in found.items() if places}


def evidence_of(baseline: Side, candidate: Side) -> tuple[ParityEvidence, ...]:
    """All kinds of evidence about two sides with the same prompts in the same order.

    The candidate's last passes are left out if it has as many as the baseline or more. With equal
    numbers, answers that changed on one side are as likely as their mirror image, and a test would
    not see them.
    """
    passes = baseline.passes
    counted = min(candidate.passes, max(1, passes - 1))
    places = range(len(baseline.prompts))
    groups = places_by_group(baseline.groups)
    separated = _reasons(baseline) == _reasons(candidate)
    values: dict[str, Callable[[Answers], Values]] = {
        "text": partial(_texts, separated=separated),
        "token ids": _token_ids,
        "finish reason": _finish_reasons,
        "number of tokens": _numbers_of_tokens,
        "schema": _validity,
        "tool calls": _tool_calls,
    }
    own = {place: len(baseline.answers_to(place)) for place in places}
    pooled = {p: (*baseline.answers_to(p), *candidate.answers_to(p)) for p in places}
    complete = {p: answers for p, answers in pooled.items() if all(a.ok for a in answers)}

    def of(name: str, distances: Mapping[int, Matrix | None]) -> ParityEvidence:
        known = {place: rows for place, rows in distances.items() if rows is not None}
        sizes = Sizes(passes, counted, candidate.passes)
        return ParityEvidence(name, known, own, _groups(groups, known), sizes)

    return (
        of("answered", {place: _unequal(_answered(a)) for place, a in pooled.items()}),
        *(
            of(name, {place: _unequal(value(a)) for place, a in complete.items()})
            for name, value in values.items()
        ),
        of(LOGPROBS, {place: _logprob_distances(a) for place, a in complete.items()}),
    )


def _unequal(values: Values) -> Matrix | None:
    if values is None:
        return None
    return [[float(one != other) for other in values] for one in values]


def _reasons(side: Side) -> bool:
    """Whether a side separates reasoning from the text of any answer."""
    places = range(len(side.prompts))
    return any(a.reasoning is not None for place in places for a in side.answers_to(place))


def _known(values: Sequence[Hashable | None]) -> Values:
    return None if None in values else values


def _answered(answers: Answers) -> Values:
    return [answer.ok for answer in answers]


def _texts(answers: Answers, *, separated: bool) -> Values:
    """Text and reasoning; None if only one side takes parts out of the text and ids are known."""
    alike = separated and len({answer.tool_calls is None for answer in answers}) == 1
    if not alike and all(answer.token_ids is not None for answer in answers):
        return None
    return [(answer.reasoning, answer.text) for answer in answers]


def _token_ids(answers: Answers) -> Values:
    return _known([answer.token_ids for answer in answers])


def _finish_reasons(answers: Answers) -> Values:
    """Why each answer ended; "tool_calls" counts as "stop" if one side leaves calls in the text."""
    reasons = [answer.finish_reason for answer in answers]
    if all(reason is None for reason in reasons):
        return None
    if any(answer.tool_calls is None for answer in answers):
        return ["stop" if reason == "tool_calls" else reason for reason in reasons]
    return reasons


def _numbers_of_tokens(answers: Answers) -> Values:
    return _known([answer.completion_tokens for answer in answers])


def _validity(answers: Answers) -> Values:
    return _known([answer.valid for answer in answers])


def _tool_calls(answers: Answers) -> Values:
    return _known([_calls(answer) for answer in answers])


def _calls(answer: ParityAnswer) -> Hashable | None:
    if answer.tool_calls is None:
        return None
    made = ((name, normalized_arguments(arguments)) for name, arguments in answer.tool_calls)
    return frozenset(Counter(made).items())


def _logprob_distances(answers: Answers) -> Matrix | None:
    """The mean differences of log-probabilities up to the first other token.

    After it, the two answers continue different texts. None if a side gives none, or spells the
    same first token in another way.
    """
    tokens = [answer.tokens for answer in answers if answer.tokens]
    if len(tokens) < len(answers):
        return None
    firsts = {
        (a.token_ids[0], t[0].text) for a, t in zip(answers, tokens, strict=True) if a.token_ids
    }
    if len(firsts) > len({number for number, _ in firsts}):
        return None
    lists = [[_likeliest(token) for token in answer] for answer in tokens]
    rows = [[0.0] * len(answers) for _ in answers]
    for i, j in combinations(range(len(answers)), 2):
        texts = ([token.text for token in tokens[n]] for n in (i, j))
        other = first_difference(*texts)
        shared = min(len(tokens[i]), len(tokens[j]), len(tokens[i]) if other is None else other + 1)
        pairs = list(map(_same_length, lists[i][:shared], lists[j][:shared]))
        distance = logprob_distance([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
        rows[i][j] = rows[j][i] = distance / shared
    return rows


def _likeliest(token: Token) -> Logprobs:
    """The likeliest tokens; of those with the same text, as parts of a character, the first."""
    return dict(sorted(token.top, key=lambda item: item[1])) or {token.text: token.logprob}


def _same_length(ours: Logprobs, theirs: Logprobs) -> tuple[Logprobs, Logprobs]:
    """Both lists with as many tokens as the shorter has, since servers return more or fewer."""
    if len(ours) == len(theirs):
        return ours, theirs
    length = min(len(ours), len(theirs))
    kept, also = (
        dict(sorted(one.items(), key=lambda item: -item[1])[:length]) for one in (ours, theirs)
    )
    return kept, also
