"""The outcome of a comparison, before it is written down in any form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.causes import Cause
    from pytest_llmengine.parity.pair import Pair
    from pytest_llmengine.parity.prompt import Prompt
    from pytest_llmengine.parity.side import Side
    from pytest_llmengine.parity.throughput import Throughput
    from pytest_llmengine.parity.verdict import Criterion, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Two sides, what is known of the causes, the numbers, and what became of each prompt.

    ``reason`` says what the verdict rests on. ``pairs`` and ``criteria`` are empty where a mismatch
    forbids to compare. ``throughput`` is None where it was not measured.
    """

    verdict: Verdict
    reason: str
    baseline: Side
    candidate: Side
    causes: tuple[Cause, ...]
    pairs: tuple[Pair, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    margin: float = 0.0
    throughput: Throughput | None = None

    @property
    def kinds(self) -> dict[str, list[Pair]]:
        """The pairs by the kind of their prompts."""
        found: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            found.setdefault(pair.kind, []).append(pair)
        return found

    def answers(self, id: str) -> tuple[Answer, Answer]:  # noqa: A002 - the prompt's own name
        """What the baseline and the candidate said to a prompt."""
        place = next(n for n, prompt in enumerate(self.baseline.prompts) if prompt.id == id)
        return self.baseline.answers[place], self.candidate.answers[place]

    def prompt(self, id: str) -> Prompt:  # noqa: A002 - the prompt's own name
        """The prompt of that id."""
        return next(prompt for prompt in self.baseline.prompts if prompt.id == id)
