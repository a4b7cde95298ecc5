"""A side that is a running engine: its answers, and the throughput of two."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pytest_llmengine.containers.docker import silent
from pytest_llmengine.parity.answers import generate_answers
from pytest_llmengine.parity.schedule import BATCH, groups_of, turns
from pytest_llmengine.parity.setup import facts_of
from pytest_llmengine.parity.side import Side
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.targets import Session

_CHANCE = random.SystemRandom()


class Live:
    """An open engine as one side of a comparison.

    ``stated`` are facts that the user gives. ``on_progress`` is called with the current task, and
    how much of it is done.
    """

    def __init__(
        self,
        session: Session,
        stated: Iterable[str] = (),
        batch: int = BATCH,
        on_progress: OnProgress = silent,
    ) -> None:
        self.name = session.name
        self.engine = session.engine
        self.facts = facts_of(session).with_stated(stated)
        self.batch = batch
        self.on_progress = on_progress

    def measure(
        self, prompts: Sequence[ParityPrompt], passes: int = 1, groups: Sequence[int] | None = None
    ) -> Side:
        """Send the prompts, in these groups if they are given, and then again for more passes."""
        chosen = tuple(groups_of(prompts, self.batch) if groups is None else groups)
        answers = self._one_pass(prompts, chosen, "answers")
        side = Side(
            name=self.name,
            facts=self.facts,
            prompts=tuple(prompts),
            answers=tuple(answers[place] for place in range(len(prompts))),
            groups=chosen,
            batch=self.batch,
            date=datetime.now(UTC).date().isoformat(),
            tool_version=tool_version(),
        )
        return self.repeat(side, passes - 1)

    def repeat(self, side: Side, passes: int, groups: Iterable[int] | None = None) -> Side:
        """The side with more passes over its prompts, or only over those of some groups."""
        wanted = frozenset(side.groups if groups is None else groups)
        places = [place for place, group in enumerate(side.groups) if group in wanted]
        prompts = [side.prompts[place] for place in places]
        chosen = [side.groups[place] for place in places]
        more: dict[int, list[ParityAnswer]] = {place: [] for place in places}
        for number in range(1, passes + 1):
            answers = self._one_pass(prompts, chosen, f"answers again, {number} of {passes}")
            for nth, answer in answers.items():
                more[places[nth]].append(answer)
        return side.with_more(more) if passes > 0 else side

    def _one_pass(
        self, prompts: Sequence[ParityPrompt], groups: Sequence[int], what: str
    ) -> Mapping[int, ParityAnswer]:
        """One answer per prompt, by the places of the prompts, group by group."""
        answers: dict[int, ParityAnswer] = {}
        for at_once, places in turns(groups, _CHANCE):
            some = [prompts[place] for place in places]
            answers |= zip(places, generate_answers(self.engine, some, at_once), strict=True)
            self.on_progress(f"{self.name}, {what}", len(answers), len(prompts))
        return answers


_MOST_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class Throughput:
    """Generated tokens per second, one value per side and round; ``prompts`` were sent at once."""

    prompts: int
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """The candidate's rate divided by the baseline's, for each round."""
        return [theirs / ours for ours, theirs in zip(self.baseline, self.candidate, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a JSON object."""
        return {
            "prompts": self.prompts,
            "baseline_tokens_per_second": [round(rate, 1) for rate in self.baseline],
            "candidate_tokens_per_second": [round(rate, 1) for rate in self.candidate],
            "ratio": round(self.ratio, 3),
            "lowest_ratio": round(min(self.ratios), 3),
            "highest_ratio": round(max(self.ratios), 3),
        }


def measure_throughput(
    baseline: Live, candidate: Live, prompts: Sequence[ParityPrompt], rounds: int
) -> Throughput | None:
    """The throughput of both sides, measured in turns; the first side alternates by round.

    Only prompts that ask for plain text are used, because prompts with schemas or tools need
    separate calls. Returns None if there are no such prompts or one side generates no tokens.
    """
    plain = [prompt for prompt in prompts if prompt.is_plain][:_MOST_PROMPTS]
    rates: dict[str, list[float]] = {"baseline": [], "candidate": []}
    turns = [("baseline", baseline), ("candidate", candidate)]
    for number in range(rounds if plain else 0):
        baseline.on_progress("throughput, round", number + 1, rounds)
        for name, side in turns:
            rates[name].append(_tokens_per_second(side.engine, plain))
        turns.reverse()
    if not plain or not rounds or min(rates["baseline"] + rates["candidate"]) == 0:
        return None
    return Throughput(len(plain), tuple(rates["baseline"]), tuple(rates["candidate"]))


def _tokens_per_second(engine: Engine, prompts: Sequence[ParityPrompt]) -> float:
    started = perf_counter()
    answers = generate_answers(engine, prompts, len(prompts))
    seconds = perf_counter() - started
    return sum(answer.completion_tokens or 0 for answer in answers) / seconds
