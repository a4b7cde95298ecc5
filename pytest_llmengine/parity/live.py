"""A side that is a running engine: its answers, its noise floor, and the throughput of two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pytest_llmengine.containers.docker import silent
from pytest_llmengine.parity.answers import generate_answers
from pytest_llmengine.parity.setup import facts_of
from pytest_llmengine.parity.side import Side, noise_floor
from pytest_llmengine.version import tool_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.parity.answers import ParityAnswer
    from pytest_llmengine.parity.prompts import ParityPrompt
    from pytest_llmengine.targets import Session


BATCH = 16
"""How many prompts are sent at once by default."""


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

    def measure(self, prompts: Sequence[ParityPrompt], *, noise: bool) -> Side:
        """Measure the engine's answers; with ``noise``, also how far it differs from itself."""

        def generate(what: str, some: Sequence[ParityPrompt], batch: int) -> list[ParityAnswer]:
            task = f"{self.name}, {what}"
            return generate_answers(self.engine, some, batch, task, self.on_progress)

        answers = generate("answers", prompts, self.batch)
        return Side(
            name=self.name,
            facts=self.facts,
            prompts=tuple(prompts),
            answers=tuple(answers),
            noise=noise_floor(prompts, answers, self.batch, generate) if noise else (),
            batch=self.batch,
            date=datetime.now(UTC).date().isoformat(),
            tool_version=tool_version(),
        )


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
