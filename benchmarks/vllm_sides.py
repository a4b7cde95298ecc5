"""Ways to get answers from vLLM, in this process and over HTTP, for the same work.

Each takes prompts and how many may be in flight, and returns the number of generated tokens. Every
answer has exactly the requested number of tokens (``ignore_eos``), so all sides do the same work.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from llmengine import EngineConfig, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from llmengine import Engine

    Work = Callable[[Sequence[str], int], int]


def plain_vllm(model: str, arguments: Mapping[str, Any], max_tokens: int) -> Work:
    """``vllm.LLM.chat``, with as many prompts per call as may be in flight."""
    from vllm import LLM
    from vllm import SamplingParams as VLLMSamplingParams

    llm = LLM(model=model, **arguments)
    sampling = VLLMSamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)

    def work(prompts: Sequence[str], in_flight: int) -> int:
        tokens = 0
        for start in range(0, len(prompts), in_flight):
            chats = [[{"role": "user", "content": p}] for p in prompts[start : start + in_flight]]
            outputs = llm.chat(chats, sampling, use_tqdm=False)
            tokens += sum(len(o.outputs[0].token_ids) for o in outputs)
        return tokens

    return work


def vllm_local(model: str, arguments: Mapping[str, Any], max_tokens: int) -> Work:
    """Our engine with ``vllm.LLM`` in this process."""
    fields = {"backend": "vllm_local", "model": model, "options": dict(arguments)}
    return _whole(lambda n: EngineConfig(**fields, max_concurrency=n).engine, max_tokens)


def llmengine(model: str, url: str, max_tokens: int) -> Work:
    """Our engine over HTTP."""
    return _whole(_over_http(model, url), max_tokens)


def llmengine_streamed(model: str, url: str, max_tokens: int) -> Work:
    """Our engine over HTTP, with streams."""
    make, params = _over_http(model, url), _sampling(max_tokens)

    def work(prompts: Sequence[str], in_flight: int) -> int:
        engine = make(in_flight)

        async def one(prompt: str) -> int:
            usage = [d.usage async for d in engine.astream(prompt, params) if d.usage]
            return usage[-1].completion_tokens or 0

        return asyncio.run(_together(one, prompts, in_flight))

    return work


def openai_sdk(model: str, url: str, max_tokens: int, *, stream: bool) -> Work:
    """The official SDK's async client, with or without streams."""

    def work(prompts: Sequence[str], in_flight: int) -> int:
        return asyncio.run(_by_sdk(prompts, in_flight, model, url, max_tokens, stream))

    return work


def _whole(make: Callable[[int], Engine], max_tokens: int) -> Work:
    params = _sampling(max_tokens)

    def work(prompts: Sequence[str], in_flight: int) -> int:
        outputs = make(in_flight).generate(list(prompts), params)
        return sum(o.usage.completion_tokens or 0 for o in outputs if o.usage)

    return work


def _sampling(max_tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)


def _over_http(model: str, url: str) -> Callable[[int], Engine]:
    fields: dict[str, Any] = {"model": model, "endpoint": url, "timeout": 600}

    def make(in_flight: int) -> Engine:
        return EngineConfig(backend="vllm_api", max_concurrency=in_flight, **fields).engine

    return make


async def _by_sdk(  # noqa: PLR0913, PLR0917 - one run's settings
    prompts: Sequence[str], in_flight: int, model: str, url: str, max_tokens: int, stream: bool
) -> int:
    from openai import AsyncOpenAI

    request: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": max_tokens}
    request["extra_body"] = {"ignore_eos": True}
    async with AsyncOpenAI(base_url=url, api_key="EMPTY", max_retries=0, timeout=600) as client:

        async def one(prompt: str) -> int:
            messages = [{"role": "user", "content": prompt}]
            if not stream:
                answer = await client.chat.completions.create(**request, messages=messages)
                return answer.usage.completion_tokens
            with_usage = {"stream": True, "stream_options": {"include_usage": True}}
            chunks = await client.chat.completions.create(
                **request, **with_usage, messages=messages
            )
            usage = [chunk.usage async for chunk in chunks if chunk.usage]
            return usage[-1].completion_tokens

        return await _together(one, prompts, in_flight)


async def _together(
    one: Callable[[str], Awaitable[int]], prompts: Sequence[str], in_flight: int
) -> int:
    slots = asyncio.Semaphore(in_flight)

    async def slotted(prompt: str) -> int:
        async with slots:
            return await one(prompt)

    return sum(await asyncio.gather(*(slotted(prompt) for prompt in prompts)))
