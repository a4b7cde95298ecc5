"""What a batch came to, and the one line that says so in the log."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import Result

log = logging.getLogger("llmengine")


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What the results of a batch add up to.

    ``usage`` is a lower bound unless ``uncounted`` is 0; ``known_cost`` is the cost of all prompts
    but the ``unpriced`` ones.
    """

    prompts: int
    answered: int
    attempts: int
    uncounted: int
    usage: Usage
    known_cost: float
    unpriced: int

    @classmethod
    def of(cls, results: Iterable[Result]) -> Self:
        """The sum of some results, of one batch or of several in one currency."""
        listed = list(results)
        costs = [r.cost for r in listed if r.cost is not None]
        return cls(
            prompts=len(listed),
            answered=sum(r.ok for r in listed),
            attempts=sum(r.attempts for r in listed),
            uncounted=sum(r.uncounted for r in listed),
            usage=sum((r.usage for r in listed if r.usage is not None), Usage()),
            known_cost=sum(costs),
            unpriced=len(listed) - len(costs),
        )

    @property
    def cost(self) -> float | None:
        """The cost of the whole batch; None if that of any prompt is unknown."""
        return None if self.unpriced else self.known_cost


def log_batch(engine: Engine, step: str | None, results: list[Result], seconds: float) -> None:
    """One line a batch at INFO, with the same as data in the record's ``llmengine``."""
    if not log.isEnabledFor(logging.INFO):
        return
    batch, currency = BatchSummary.of(results), engine.tariff.currency
    data = {
        "event": "batch",
        "engine": engine.name,
        "model": engine.model,
        "step": step,
        "seconds": seconds,
        **asdict(batch),
        "cost": batch.cost,
        "currency": currency,
    }
    log.info(
        "%s%s: %d of %d prompts answered, %d attempts, %s, %s, %.2f s",
        engine.name,
        f" ({step})" if step else "",
        batch.answered,
        batch.prompts,
        batch.attempts,
        _tokens(batch),
        _cost(batch, currency),
        seconds,
        extra={"llmengine": data},
    )


def _tokens(batch: BatchSummary) -> str:
    if batch.usage.total_tokens is None:
        return "unknown tokens"
    return f"{'at least ' if batch.uncounted else ''}{batch.usage.total_tokens} tokens"


def _cost(batch: BatchSummary, currency: str) -> str:
    if not batch.unpriced:
        return f"cost {batch.known_cost:.6g} {currency}"
    if batch.unpriced == batch.prompts:
        return "unknown cost"
    return f"cost at least {batch.known_cost:.6g} {currency}"
