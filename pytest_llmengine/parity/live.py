"""A side that answers now: asking it, and measuring how far it is from itself.

How fast two live sides answer the same prompts, measured in turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pytest_llmengine.parity.answers import ask
from pytest_llmengine.parity.setup import facts_of
from pytest_llmengine.parity.side import Side, noise_floor
from pytest_llmengine.reports.model import tool_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.targets import Session


BATCH = 16
"""How many prompts are under way at once where nothing else is said."""


class Live:
    """An open engine in the place of one side.

    ``stated`` are facts that a person gives; ``watch`` is told what is under way.
    """

    def __init__(
        self,
        session: Session,
        stated: Iterable[str] = (),
        batch: int = BATCH,
        watch: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = session.name
        self.engine = session.engine
        self.facts = facts_of(session).with_stated(stated)
        self.batch = batch
        self.watch = watch

    def measure(self, prompts: Sequence[ParityPrompt], *, noise: bool) -> Side:
        """The engine's answers; with ``noise``, also how far it is from itself."""

        def asked(what: str, some: Sequence[ParityPrompt], batch: int) -> list[ParityAnswer]:
            label = f"{self.name}, {what}"

            def tell(done: int) -> None:
                self.watch(f"{label}: {done} of {len(some)}")

            return ask(self.engine, some, batch, tell)

        answers = asked("answers", prompts, self.batch)
        return Side(
            name=self.name,
            facts=self.facts,
            prompts=tuple(prompts),
            answers=tuple(answers),
            noise=noise_floor(prompts, answers, self.batch, asked) if noise else (),
            batch=self.batch,
            date=datetime.now(UTC).date().isoformat(),
            tool_version=tool_version(),
        )


_MOST = 64


@dataclass(frozen=True, slots=True)
class Throughput:
    """Generated tokens a second of each side, one number a round; ``prompts`` went at once."""

    prompts: int
    baseline: tuple[float, ...]
    candidate: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Candidate over baseline, round by round."""
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


def in_turns(
    baseline: Live, candidate: Live, prompts: Sequence[ParityPrompt], rounds: int
) -> Throughput | None:
    """The throughput of both, the first place changing from round to round.

    Only prompts that ask for text alone take part: schemas and tools are calls of their own. None
    where there are no such prompts, or one side answers nothing.
    """
    asked = [prompt for prompt in prompts if prompt.is_plain][:_MOST]
    rates: dict[str, list[float]] = {"baseline": [], "candidate": []}
    turns = [("baseline", baseline), ("candidate", candidate)]
    for number in range(rounds if asked else 0):
        baseline.watch(f"throughput, round {number + 1} of {rounds}")
        for name, side in turns:
            rates[name].append(_rate(side.engine, asked))
        turns.reverse()
    if not asked or not rounds or min(rates["baseline"] + rates["candidate"]) == 0:
        return None
    return Throughput(len(asked), tuple(rates["baseline"]), tuple(rates["candidate"]))


def _rate(engine: Engine, prompts: Sequence[ParityPrompt]) -> float:
    started = perf_counter()
    answers = ask(engine, prompts, len(prompts))
    seconds = perf_counter() - started
    return sum(answer.completion_tokens or 0 for answer in answers) / seconds
