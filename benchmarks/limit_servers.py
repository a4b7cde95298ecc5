"""Compare `max_concurrency: auto` with fixed numbers, on the mock and on real servers.

    python benchmarks/limit_servers.py --seconds 30
    python benchmarks/limit_servers.py --seconds 30 --url http://127.0.0.1:8000/v1 --model NAME

Each setting sends prompts for so many seconds, and the settings take turns. The mock has 8 slots;
after a third of the time it has 4, and after two thirds 16. llama.cpp runs SmolLM2-135M in this
package's embedded server. With ``--url``, only the vLLM server at that address is measured; its key
is in VLLM_API_KEY. The goodput is the tokens of complete answers per second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from llmengine import EngineConfig, SamplingParams
from llmengine.mock import Load, MockServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine import Engine, LLMEngineError

SETTINGS: tuple[int | str, ...] = ("auto", 4, 8, 16, 32, 64)
SLOTS = (8, 4, 16)
IN_FLIGHT = 100  # prompts of the program, of which the engine sends as many as its limit allows
PACE = {"time_to_first_token": 0.05, "tokens_per_second": 50.0, "jitter": 0.2}


class Measured(NamedTuple):
    """Tokens of complete answers per second, and the limit at the end."""

    goodput: float
    limit: float


def measure(engine: Engine, seconds: float) -> Measured:
    """What one setting does in so many seconds; the answers have 4 to 27 tokens."""
    return asyncio.run(_measure(engine, seconds))


async def _measure(engine: Engine, seconds: float) -> Measured:
    tokens, numbers = 0, itertools.count()
    error: LLMEngineError | None = None

    async def send() -> None:
        nonlocal tokens, error
        for number in numbers:
            sampling = SamplingParams(max_tokens=4 + number * 7 % 24, temperature=0)
            (result,) = await engine.aresults(f"Write about the number {number}.", sampling)
            error = result.error or error
            if result.usage is not None:
                tokens += result.usage.completion_tokens or 0

    tasks = [asyncio.create_task(send()) for _ in range(IN_FLIGHT)]
    await asyncio.sleep(seconds)
    goodput, state = tokens / seconds, engine.backend.limits()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if not tokens and error is not None:
        raise error
    return Measured(goodput, 0 if state is None else state.limit)


def on_mock(setting: int | str, seconds: float) -> Measured:
    """A setting at the mock, whose capacity changes."""
    with MockServer(load=Load(slots=SLOTS[0], **PACE)) as server:
        timers = [
            threading.Timer(
                seconds * place / len(SLOTS), server.simulate, [Load(slots=slots, **PACE)]
            )
            for place, slots in enumerate(SLOTS)
        ]
        for timer in timers[1:]:
            timer.start()
        engine = EngineConfig(
            backend="vllm_api", model="mock", endpoint=server.base_url, max_concurrency=setting
        ).engine
        with engine:
            found = measure(engine, seconds)
        for timer in timers[1:]:
            timer.join()
        return found


def on_llama(setting: int | str, seconds: float, slots: int) -> Measured:
    """A setting at a real llama.cpp with so many slots."""
    engine = EngineConfig(
        backend="embedded",
        model="smollm2-135m",
        max_concurrency=setting,
        options={"n_parallel": slots, "n_ctx": 512 * slots},
        timeout=300,
    ).engine
    with engine:
        engine.results("Hello", SamplingParams(max_tokens=1))  # starts the server
        return measure(engine, seconds)


def on_vllm(setting: int | str, seconds: float, url: str, model: str) -> Measured:
    """A setting at a vLLM server that runs already."""
    engine = EngineConfig(
        backend="vllm_api",
        model=model,
        endpoint=url,
        api_key=os.environ.get("VLLM_API_KEY"),
        max_concurrency=setting,
        timeout=300,
    ).engine
    with engine:
        return measure(engine, seconds)


def table(name: str, run: Callable[[int | str, float], Measured], seconds: float) -> None:
    """Print one row per setting; the settings take turns in two rounds."""
    rounds = [{setting: run(setting, seconds) for setting in SETTINGS} for _ in range(2)]
    goodput = {s: statistics.mean(r[s].goodput for r in rounds) for s in SETTINGS}
    best = max(value for setting, value in goodput.items() if setting != "auto")
    print(f"\n{name}; load average {os.getloadavg()[0]:.0f}\n")
    print("| max_concurrency | tokens/s | x best fixed | limit at the end |")
    print("|---|---|---|---|")
    for setting in SETTINGS:
        limits = ", ".join(f"{r[setting].limit:g}" for r in rounds)
        share = goodput[setting] / best
        print(f"| {setting} | {goodput[setting]:.0f} | {share:.2f} | {limits} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="per setting and round")
    parser.add_argument("--slots", type=int, action="append", help="of llama.cpp; default 1 and 4")
    parser.add_argument("--url", help="of a vLLM server, which is measured alone")
    parser.add_argument("--model", default="", help="what that server calls its model")
    arguments = parser.parse_args()
    if arguments.url:
        table("vLLM", partial(on_vllm, url=arguments.url, model=arguments.model), arguments.seconds)
        return
    table("mock, 8 slots, then 4, then 16", on_mock, arguments.seconds)
    for slots in arguments.slots or [1, 4]:
        table(f"llama.cpp, {slots} slots", partial(on_llama, slots=slots), arguments.seconds)


if __name__ == "__main__":
    main()
