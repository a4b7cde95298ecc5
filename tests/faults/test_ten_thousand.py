"""Ten thousand prompts, through every call style, at servers of which every fifth answer fails."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmengine
from llmengine import EngineConfig
from llmengine.transport.loop import background, shutdown

from .cell import WATCHDOG, in_thread, wait_until
from .fault import BACKENDS
from .server import FaultServer, text_for, true_answer
from .table import FAULTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmengine import Engine

    from .fault import Backend
    from .server import Script
    from .wires import Asked

FILES = Path("/proc/self/fd")
SHARE = 0.2
RETRIES = 6
# A prompt whose number ends with this digit meets a lasting fault each time.
LASTING = 77
HEAVY = {"headers for ever", "a header of 1 MB", "10,000 headers"}


@dataclass
class Mixture:
    """What a server sends for the prompts of one backend: mostly true answers."""

    backend: Backend
    style: str
    chance: random.Random
    met: set[str] = field(default_factory=set)

    def script(self, asked: Asked) -> Script:
        """A true answer, or a fault."""
        if _lasts(asked.text):
            return FAULTS["400 Bad Request"].script(asked)
        if self.chance.random() >= SHARE:
            return true_answer(asked)
        fault = self.chance.choice(self._passing)
        self.met.add(fault.name)
        return fault.script(asked)

    def __post_init__(self) -> None:
        """Select the faults of one answer after which the same request is sent again."""
        self._passing = [
            fault
            for fault in FAULTS.values()
            if not fault.everywhere and not fault.unread and fault.name not in HEAVY
            if "retried" in fault.outcome(self.backend, self.style)
        ]


def _lasts(name: str) -> bool:
    return int(name.rpartition("-")[2]) % 100 == LASTING


async def _results(engine: Engine, prompts: list[str], _: Path) -> list[str | None]:
    return [r.output.outputs[0].text if r.output else None for r in await engine.aresults(prompts)]


async def _iter_results(engine: Engine, prompts: list[str], _: Path) -> list[str | None]:
    found = engine.aiter_results(prompts)
    return [r.output.outputs[0].text if r.output else None async for r in found]


async def _batch(engine: Engine, prompts: list[str], folder: Path) -> list[str | None]:
    lines = [
        {
            "custom_id": prompt,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "user", "content": prompt}]},
        }
        for prompt in prompts
    ]
    path = folder / "batch.jsonl"
    await in_thread(lambda: llmengine.run_batch(lines, path, engine))
    assert path.read_bytes().count(b"\n") == len(lines)
    return [_text_in(record) for record in llmengine.read_batch(path, lines)]


def _text_in(record: dict[str, Any] | None) -> str | None:
    assert record is not None
    if record["error"] is not None:
        return None
    text: str = record["response"]["body"]["choices"][0]["message"]["content"]
    return text


PLAN: list[tuple[str, str, int, Callable[..., Awaitable[list[str | None]]]]] = [
    ("openai_compatible", "results", 3000, _results),
    ("ollama_api", "iter_results", 3000, _iter_results),
    ("vllm_api", "batch", 3000, _batch),
    ("openai/chat", "results", 1000, _results),
]


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Each prompt ends once, with its own answer or an error, and nothing is left open."""
    shutdown()  # so that only the threads of this test are counted
    threads, files = set(threading.enumerate()), len(list(FILES.iterdir()))

    asyncio.run(_all_of_them(tmp_path))
    shutdown()

    for thread in set(threading.enumerate()) - threads:
        thread.join(
            timeout=WATCHDOG
        )  # threads of the loop, which end when they see that it is closed
    assert set(threading.enumerate()) <= threads
    assert len(list(FILES.iterdir())) <= files


async def _all_of_them(folder: Path) -> None:
    tasks = asyncio.all_tasks(background().loop)
    found = await asyncio.gather(*(_one(*plan, folder) for plan in PLAN))
    asked = sum(len(one) for one in found)
    passing = {p: text for one in found for p, text in one.items() if not _lasts(p)}
    unanswered = [prompt for prompt, text in passing.items() if text is None]

    assert asked == 10_000
    assert len(unanswered) <= 0.01 * len(passing), f"{len(unanswered)} prompts are unanswered"
    lasting = {p: text for one in found for p, text in one.items() if _lasts(p)}
    assert all(text is None for text in lasting.values())
    await wait_until(lambda: asyncio.all_tasks(background().loop) <= tasks, "tasks are left")


async def _one(
    name: str, style: str, count: int, ask: Callable[..., Any], folder: Path
) -> dict[str, str | None]:
    """The answers by prompt of one engine, each of which is the true one."""
    backend = BACKENDS[name]
    mixture = Mixture(backend, style, random.Random(name))
    word = name.replace("/", "_")
    prompts = [f"ask-{word}-{number}" for number in range(count)]
    async with FaultServer(mixture.script, hits=lambda _: True) as server:
        config = EngineConfig(
            **backend.config,
            model="m",
            endpoint=f"http://127.0.0.1:{server.port}{backend.path}",
            max_retries=RETRIES,
            retry_wait=0.01,
            max_concurrency=32,
            timeout=60,
        )
        texts = await ask(config.engine, prompts, folder)
        await wait_until(
            lambda: server.busy == 0 and server.open <= 32, "connections are left open"
        )

    assert len(texts) == count
    wrong = [(p, t) for p, t in zip(prompts, texts, strict=True) if t not in {text_for(p), None}]
    assert not wrong, f"prompts with another answer: {wrong[:5]}"
    assert set(server.requests) == set(prompts), "prompts were never sent"
    lasting = [p for p in prompts if _lasts(p)]
    assert all(server.requests[p] == 1 for p in lasting), "a lasting fault was asked again"
    assert len(mixture.met) > 20, f"only {len(mixture.met)} kinds of faults were met"
    return dict(zip(prompts, texts, strict=True))
