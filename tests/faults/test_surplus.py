"""Data that a server sends after an answer is never the answer to another prompt."""

from __future__ import annotations

import asyncio

import pytest

from llmengine import EngineConfig

from .server import FaultServer, text_for
from .table import FAULTS


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
def test_each_prompt_gets_its_own_answer(transport: str) -> None:
    """Neither transport uses the connection with a second answer again."""
    prompts = [f"ask-{transport}-{number}" for number in range(3)]
    script = FAULTS["a second answer without a request"].script

    async def ask() -> list[str]:
        async with FaultServer(script, hits=lambda prompt: prompt == prompts[0]) as server:
            config = EngineConfig(
                backend="openai_compatible",
                model="m",
                endpoint=f"http://127.0.0.1:{server.port}/v1",
                transport=transport,
                max_concurrency=1,
            )
            return [o.outputs[0].text for o in await config.engine.agenerate(prompts)]

    assert asyncio.run(ask()) == [text_for(prompt) for prompt in prompts]
