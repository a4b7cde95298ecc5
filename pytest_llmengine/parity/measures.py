"""What is counted and measured over the pairs of a comparison, and over those of a noise floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_llmengine.parity.pair import Pair, Status

Count = Callable[[Sequence[Pair]], tuple[int, int]]
"""How many of how many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A quantile of the prompts' differences, and how many times that of the noise it may be."""

    name: str
    share: float
    times: float

    def of(self, pairs: Sequence[Pair]) -> float | None:
        """The quantile over these pairs; None where nobody gave log-probabilities."""
        return quantile(differences(pairs), self.share)


def _failed_on_one_side(pairs: Sequence[Pair]) -> tuple[int, int]:
    return sum(p.status is Status.ONE_FAILED for p in pairs), len(pairs)


def _diverged(pairs: Sequence[Pair]) -> tuple[int, int]:
    compared = [p for p in pairs if p.compared]
    return sum(p.status is Status.DIVERGED for p in compared), len(compared)


def _finish_reasons(pairs: Sequence[Pair]) -> tuple[int, int]:
    compared = [p for p in pairs if p.compared]
    return sum(p.finish_reasons[0] != p.finish_reasons[1] for p in compared), len(compared)


def _completion_tokens(pairs: Sequence[Pair]) -> tuple[int, int]:
    counted = [p.completion_tokens for p in pairs if None not in p.completion_tokens]
    return sum(ours != theirs for ours, theirs in counted), len(counted)


def _lost_validity(pairs: Sequence[Pair]) -> tuple[int, int]:
    valid = [p for p in pairs if p.valid[0]]
    return sum(not p.valid[1] for p in valid), len(valid)


def _tool_calls(pairs: Sequence[Pair]) -> tuple[int, int]:
    """One minus F1: of all calls of both sides, those that the other did not make."""
    calls = [p.calls for p in pairs if p.calls is not None]
    made = sum(c.baseline + c.candidate for c in calls)
    return made - 2 * sum(c.matched for c in calls), made


def tool_call_f1(pairs: Sequence[Pair]) -> float | None:
    """Agreement on tool calls, 1 where all are the same; None where nobody called a tool."""
    unmatched, made = _tool_calls(pairs)
    return 1 - unmatched / made if made else None


def differences(pairs: Sequence[Pair]) -> list[float]:
    """Each prompt's largest difference of log-probabilities, sorted."""
    return sorted(p.difference for p in pairs if p.difference is not None)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest of the sorted values that at least this share does not exceed."""
    return values[max(math.ceil(share * len(values)) - 1, 0)] if values else None


COUNTS: dict[str, Count] = {
    "failed on one side": _failed_on_one_side,
    "other tokens or text": _diverged,
    "other finish reason": _finish_reasons,
    "other number of tokens": _completion_tokens,
    "no longer fits its schema": _lost_validity,
    "tool calls without a match": _tool_calls,
}

DIFFERENCES = (
    Difference("logprob difference, 90%", 0.9, times=2.0),
    Difference("logprob difference, largest", 1.0, times=4.0),
)
