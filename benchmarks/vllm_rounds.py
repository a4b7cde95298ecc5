"""Run sides in turns on the same work, and print the table of their ratios."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Work = Callable[[Sequence[str], int], int]

_QUESTIONS = (
    "Tell a short story about a lighthouse keeper.",
    "Explain how bread rises.",
    "List what to pack for a week in the mountains.",
    "Describe a market in the early morning.",
    "Give advice to somebody who learns the violin.",
    "What is the difference between weather and climate?",
    "Write a letter to a friend who moved away.",
    "How does a bicycle stay upright?",
)


@dataclass
class Side:
    """One way to get answers; ``work(prompts, in_flight)`` returns the generated tokens."""

    name: str
    work: Work
    rates: dict[int, list[float]] = field(default_factory=dict)
    cpu: dict[int, list[float]] = field(default_factory=dict)


def prompts(count: int, mark: str) -> list[str]:
    """Prompts that begin differently for every mark, so that no side uses another's cache."""
    return [f"{mark}-{i}: {_QUESTIONS[i % len(_QUESTIONS)]}" for i in range(count)]


def take_turns(
    sides: list[Side], sizes: dict[int, int], rounds: int, max_tokens: int | None
) -> None:
    """Measure every side at every concurrency, round by round, a different side first each time.

    ``sizes`` is {in flight: prompts}. With ``max_tokens`` each answer must have exactly as many.
    """
    for side in sides:
        side.work(prompts(2, f"warm {side.name}"), 2)
    for number in range(rounds):
        for in_flight, count in sizes.items():
            turn = number % len(sides)
            for side in [*sides[turn:], *sides[:turn]]:
                work = prompts(count, f"{number} {side.name} {in_flight}")
                _measure(side, work, in_flight, max_tokens)


def _measure(side: Side, work: list[str], in_flight: int, max_tokens: int | None) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    tokens = side.work(work, in_flight)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if max_tokens is not None and tokens != max_tokens * len(work):
        msg = f"{side.name} generated {tokens} tokens and not {max_tokens * len(work)}"
        raise AssertionError(msg)
    side.rates.setdefault(in_flight, []).append(tokens / seconds)
    side.cpu.setdefault(in_flight, []).append(cpu / len(work))


def print_table(sides: list[Side], sizes: dict[int, int]) -> None:
    """Tokens per second, and the ratio to the first side: the median of the rounds' ratios."""
    base = sides[0]
    heads = " | ".join(f"tokens/s at {n} | x" for n in sizes)
    print(f"| side | {heads} |")
    print("|---|" + "---|---|" * len(sizes))
    for side in sides:
        cells = [side.name]
        for n in sizes:
            ratios = [a / b for a, b in zip(side.rates[n], base.rates[n], strict=True)]
            cells += [f"{statistics.median(side.rates[n]):.0f}", f"{statistics.median(ratios):.2f}"]
        print("| " + " | ".join(cells) + " |")
