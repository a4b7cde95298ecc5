"""Measure the CPU time of our retry loop and of stamina's, for a call that succeeds at once.

    python -m pip install --group bench
    python benchmarks/retry_loop.py

Each number is the median of rounds that take turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import stamina

from llmengine.transport.policies import with_retries
from llmengine.types.errors import CallError

CALLS = 5000
ROUNDS = 7


async def answer() -> int:
    """A call that does nothing."""
    return 1


async def bare() -> None:
    """The call without a retry loop."""
    await answer()


async def ours() -> None:
    """The call in our loop."""
    await with_retries(answer, 3)


async def staminas() -> None:
    """The call in stamina's."""
    async for attempt in stamina.retry_context(on=CallError, attempts=4):
        with attempt:
            await answer()


async def main() -> None:
    """Run the three in turns and print their medians."""
    micros: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for call in (bare, ours, staminas):
            start = time.process_time()
            for _ in range(CALLS):
                await call()
            spent = time.process_time() - start
            micros.setdefault(call.__name__, []).append(1e6 * spent / CALLS)
    print("| retries by | CPU a call |\n|---|---|")
    for name, values in micros.items():
        print(f"| {name} | {statistics.median(values):.2f} us |")


if __name__ == "__main__":
    asyncio.run(main())
