"""Measure false alarms and power of `llmengine parity` on simulated servers.

    python benchmarks/parity_simulation.py --runs 1000

A simulated server answers prompts with a text, token ids and log-probabilities. Its noise is one
of `NOISES`: none, other answers by themselves, or answers that depend on the batch, in which all
prompts of a group are computed alike. The rule is that of `pytest_llmengine.parity`, without the
repetition of single groups. A row marked with * shows what the rule cannot know: noise that all
answers of a pass share. It is not judged.

With a margin, as many prompts as it allows always have other answers and log-probabilities.

``--further`` adds a condition that the rule does not have: the candidate must be so many times as
far from the baseline as any two passes of the baseline from its others.

The exit status is 1 if more false alarms are seen than a valid test has with a chance of 0.001.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

from pytest_llmengine.parity import Choices
from pytest_llmengine.parity.answers import ParityAnswer, Token
from pytest_llmengine.parity.contradictions import contradictions_of
from pytest_llmengine.parity.evidence import evidence_of
from pytest_llmengine.parity.prompts import ParityPrompt
from pytest_llmengine.parity.schedule import groups_of
from pytest_llmengine.parity.setup import Facts
from pytest_llmengine.parity.side import Side
from pytest_llmengine.parity.significance import (
    DEPENDENT,
    DecisionRule,
    Unit,
    adjusted_p_values,
    dependence,
    merged,
    p_value,
)
from pytest_llmengine.statistics import Stratum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pytest_llmengine.parity.evidence import ParityEvidence

    Pass = Sequence[ParityAnswer]
    Change = Callable[[Pass, random.Random], Pass]

RARE = 0.001
PASSES, CANDIDATE_PASSES = 4, 2
BATCH = 8
VARIANTS = 3  # of a computation, one for each size of a batch
DRAWS = 499


@dataclass(frozen=True)
class Noise:
    """How often an answer differs by itself, and what shares a variant of the computation.

    ``nats`` is by how much the log-probabilities of ``some`` prompts vary by themselves, or of all;
    and ``nats_of_pass`` is by how much those of all prompts move together in a pass.
    """

    name: str
    alone: float = 0.0
    nats: float = 0.0
    some: Collection[int] = ()
    nats_of_pass: float = 0.0
    shared_by: str = ""
    rare: float = 1.0

    def variants(self, groups: Sequence[int], chance: random.Random) -> Sequence[int]:
        """The variant of the computation of each prompt in one pass."""
        keys = [0] * len(groups) if self.shared_by == "pass" else groups
        drawn = {
            key: chance.randrange(VARIANTS) if chance.random() < self.rare else 0
            for key in sorted(set(keys))
        }
        return [drawn[key] for key in keys] if self.shared_by else [0] * len(groups)


NOISES = (
    Noise("none"),
    Noise("each answer", alone=0.2),
    Noise("groups", shared_by="group"),
    Noise("groups, rarely", shared_by="group", rare=0.05),
    Noise("both", alone=0.1, shared_by="group"),
)
SHARED = (
    Noise("passes", shared_by="pass"),
    Noise("passes, weakly", nats=0.02, nats_of_pass=0.01),
    Noise("passes, very weakly", nats=0.02, nats_of_pass=0.005),
)
NUMBERS = Noise("log-probabilities", nats=0.02)
# If the prompts that are furthest apart were left out, these would be left out instead of those
# that differ.
FEW = (5, 17)
FEW_VARY = Noise("few prompts", nats=0.3, some=FEW)


def answer_of(
    place: int, variant: int, noise: Noise, chance: random.Random, moved: float = 0.0
) -> ParityAnswer:
    """The answer to a prompt; a third of the prompts have another text in each variant.

    ``moved`` is by how many nats the log-probabilities of its pass have moved.
    """
    word = 10 * variant if place % 3 == 0 else 0
    if chance.random() < noise.alone:
        word += chance.randrange(1, 4)
    ids = (place, 1000 + word, *range(2000, 2000 + 1 + word % 2))
    texts = [f" {number}" for number in ids]
    shift = (0.02 * variant + moved) * (-1) ** place
    if noise.nats and (not noise.some or place in noise.some):
        shift += chance.gauss(0, noise.nats)
    return ParityAnswer(
        id=f"p{place}",
        text="".join(texts),
        token_ids=ids,
        tokens=tuple(Token(text, shift - 0.1, ((text, shift - 0.1),)) for text in texts),
        finish_reason="stop",
        completion_tokens=len(ids),
    )


def simulated_pass(groups: Sequence[int], noise: Noise, chance: random.Random) -> Pass:
    """The answers of one pass."""
    variants = noise.variants(groups, chance)
    moved = chance.gauss(0, noise.nats_of_pass) if noise.nats_of_pass else 0.0
    return [answer_of(place, variants[place], noise, chance, moved) for place in range(len(groups))]


def side_of(passes: Sequence[Pass], groups: Sequence[int]) -> Side:
    """A side with these passes."""
    prompts = tuple(ParityPrompt(one.id, "chat", (), 8) for one in passes[0])
    return Side(
        name="simulated",
        facts=Facts(),
        prompts=prompts,
        answers=tuple(passes[0]),
        again=tuple(zip(*passes[1:], strict=True)),
        groups=tuple(groups),
        batch=BATCH,
        date="",
        tool_version="",
    )


def is_near(row: ParityEvidence, further: float) -> bool:
    """Whether the sides are not so many times as far apart as two passes of the baseline can be."""
    passes = merged(list(row.strata().values()))
    own = range(passes.baseline)
    furthest = 0.0
    for pair in combinations(own, 2):
        order = [*(n for n in own if n not in pair), *pair]
        rows = [[passes.distances[i][j] for j in order] for i in order]
        furthest = max(furthest, Stratum(rows, len(own) - len(pair)).energy)
    return passes.energy <= further * furthest


def verdict(
    baseline: Side, candidate: Side, alpha: float, *, may_differ: int = 0, further: float = 0.0
) -> str:
    """What the rule says of two sides, of which so many prompts may differ."""
    if contradictions_of(baseline, candidate):
        return "diverges"
    rows = {row.name: row for row in evidence_of(baseline, candidate) if row.of}
    is_dependent = dependence([*rows.values()]) < DEPENDENT
    unit = Unit.WHOLE_PASS if is_dependent else Unit.GROUP
    rule = DecisionRule(alpha, may_differ=may_differ, unit=unit, draws=DRAWS)
    p_values = {name: p_value(row, rule) for name, row in rows.items()}
    adjusted = adjusted_p_values(rows, p_values)
    if any(p <= alpha and not is_near(rows[name], further) for name, p in adjusted.items()):
        return "diverges"
    return "cannot tell" if is_dependent else "equal"


def _unchanged(answers: Pass, _chance: random.Random) -> Pass:
    return answers


def _stripped(answers: Pass) -> Pass:
    return [replace(answer, token_ids=None, tokens=None) for answer in answers]


def _cut(answers: Pass, chance: random.Random) -> Pass:
    """The last word of 2% of the texts is missing."""
    return [
        replace(answer, text=answer.text.rpartition(" ")[0]) if chance.random() < 0.02 else answer
        for answer in answers
    ]


def _swapped(answers: Pass, _chance: random.Random) -> Pass:
    """The texts of two answers, of different groups, are swapped each time."""
    one, *rest, other = answers
    return [replace(one, text=other.text), *rest, replace(other, text=one.text)]


def _with_nats(answer: ParityAnswer, nats: float) -> ParityAnswer:
    values = [(t.text, t.logprob + nats) for t in answer.tokens or ()]
    return replace(answer, tokens=tuple(Token(*one, (one,)) for one in values))


def _shifted(answers: Pass, _chance: random.Random) -> Pass:
    """The log-probabilities of another computation, with other words in 5% of the texts."""

    def shifted(place: int, answer: ParityAnswer) -> ParityAnswer:
        other = place % 20 == 0
        ids = (answer.token_ids or ()) + (9,) * other
        return replace(_with_nats(answer, -0.01), text=answer.text + " 9" * other, token_ids=ids)

    return [shifted(place, answer) for place, answer in enumerate(answers)]


def _moved(answers: Pass, _chance: random.Random) -> Pass:
    """The log-probabilities are 0.01 nats higher or lower."""
    return [_with_nats(answer, 0.01 * (-1) ** place) for place, answer in enumerate(answers)]


def _five(answers: Pass, _chance: random.Random) -> Pass:
    """The texts of five prompts are others each time."""
    step = len(answers) // 5
    return [
        replace(answer, text=f"{answer.text} 9")
        if place % step == 0 and place < 5 * step
        else answer
        for place, answer in enumerate(answers)
    ]


CHANGES: dict[str, Change] = {
    "2% of the texts cut": _cut,
    "2% of the texts cut, ids and log-probabilities stripped": lambda a, c: _stripped(_cut(a, c)),
    "two texts swapped": _swapped,
    "two texts swapped, ids and log-probabilities stripped": lambda a, c: _stripped(_swapped(a, c)),
    "5% of the answers other, ids and log-probabilities stripped": lambda a, c: _stripped(
        _shifted(a, c)
    ),
}


NOISY_CHANGES: Sequence[tuple[Noise, str, Change]] = (
    (
        Noise("2% of the answers", alone=0.02),
        "five texts other",
        lambda a, c: _stripped(_five(a, c)),
    ),
    (NUMBERS, "0.01 nats", _moved),
)


def _differing(answers: Pass, places: Collection[int]) -> Pass:
    """These prompts have one more word, and other log-probabilities."""

    def other(answer: ParityAnswer) -> ParityAnswer:
        added = Token(" 9", 0.0, ((" 9", 0.0),))
        tokens = (*(answer.tokens or ()), added)
        ids = (*(answer.token_ids or ()), 9)
        text = answer.text + added.text
        longer = replace(answer, text=text, token_ids=ids, tokens=tokens)
        return _with_nats(replace(longer, completion_tokens=len(ids)), -0.01)

    return [other(one) if place in places else one for place, one in enumerate(answers)]


def simulate(  # noqa: PLR0913
    noise: Noise,
    change: Change,
    *,
    prompts: int,
    runs: int,
    alpha: float,
    single: bool = False,
    may_differ: int = 0,
    differ: int = 0,
    further: float = 0.0,
) -> Counter[str]:
    """How often the rule says what; with ``single``, it takes each prompt for a group.

    ``differ`` is how many prompts differ, at random places, and ``may_differ`` how many may.
    """
    groups = groups_of([ParityPrompt(str(n), "chat", (), 8) for n in range(prompts)], BATCH)
    units = range(prompts) if single else groups
    found: Counter[str] = Counter()
    for run in range(runs):
        chance = random.Random(f"{noise.name} {run}")
        ours = [simulated_pass(groups, noise, chance) for _ in range(PASSES)]
        theirs = [
            change(simulated_pass(groups, noise, chance), chance) for _ in range(CANDIDATE_PASSES)
        ]
        places = chance.sample(sorted({*range(prompts)}.difference(FEW)), differ)
        theirs = [_differing(one, places) for one in theirs]
        sides = side_of(ours, units), side_of(theirs, units)
        found[verdict(*sides, alpha, may_differ=may_differ, further=further)] += 1
    return found


def too_many(false_alarms: int, runs: int, alpha: float) -> bool:
    """Whether a valid test has as many false alarms with a chance below 0.001."""
    rest = sum(comb(runs, k) * alpha**k * (1 - alpha) ** (runs - k) for k in range(false_alarms))
    return 1 - rest < RARE


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=228)
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--margin", type=float, default=0.05)
    parser.add_argument("--single", action="store_true", help="take each prompt for a group")
    parser.add_argument("--further", type=float, default=0.0, help="see above; 0 is the rule")
    given = parser.parse_args()
    setting = {
        "prompts": given.prompts,
        "runs": given.runs,
        "alpha": given.alpha,
        "single": given.single,
        "further": given.further,
    }
    excess = False

    def tried(
        name: str, noise: Noise, change: Change = _unchanged, *, judged: bool = False
    ) -> None:
        nonlocal excess
        found = simulate(noise, change, **setting)
        excess |= judged and too_many(found["diverges"], given.runs, given.alpha)
        print(f"{name:62}{found['diverges']:8}  {found['cannot tell']:11}")

    print(f"{given.runs} runs of {given.prompts} prompts, alpha {given.alpha:g}")
    print(f"{'no change, noise of':62}diverges  cannot tell")
    for noise in (*NOISES, NUMBERS):
        tried(noise.name, noise, judged=True)
    for noise in SHARED:
        tried(f"* {noise.name}", noise)
    print("\nchange, without noise")
    for name, change in CHANGES.items():
        tried(name, NOISES[0], change)
    print("\nchange, with noise")
    for noise, name, change in NOISY_CHANGES:
        tried(f"{name}, noise of {noise.name}", noise, change)
    allowed = Choices(margin=given.margin).may_differ(given.prompts)
    print(f"\nmargin {given.margin:g}, so that {allowed} prompts may differ, noise of")
    setting |= {"may_differ": allowed, "differ": allowed}
    for noise in (*NOISES, FEW_VARY):
        tried(f"{noise.name}, {allowed} differ", noise, judged=True)
    for times in (2, 3):
        setting |= {"differ": times * allowed}
        tried(f"{NOISES[0].name}, {times * allowed} differ", NOISES[0])
    return int(excess)


if __name__ == "__main__":
    sys.exit(main())
