"""How fast two live sides answer the same prompts, measured in turns."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pytest_llmengine.parity.asking import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.engine.engine import Engine
    from pytest_llmengine.parity.live import Live
    from pytest_llmengine.parity.prompt import Prompt

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
    baseline: Live, candidate: Live, prompts: Sequence[Prompt], rounds: int
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


def _rate(engine: Engine, prompts: Sequence[Prompt]) -> float:
    started = perf_counter()
    answers = ask(engine, prompts, len(prompts))
    seconds = perf_counter() - started
    return sum(answer.completion_tokens or 0 for answer in answers) / seconds
