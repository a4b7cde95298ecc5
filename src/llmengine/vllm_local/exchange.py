"""One request to the LLM of this process, as the rest of the library sends requests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic_core import to_json

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.types.errors import APITimeoutError
from llmengine.vllm_local.job import END

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from llmengine.types.request import ChatRequest
    from llmengine.vllm_local.job import Job
    from llmengine.vllm_local.thread import LLMThread


@dataclass(frozen=True, slots=True)
class Exchange:
    """An Outgoing that never leaves the process; ``total`` is in seconds.

    What comes back is what vLLM's server would have sent, so that it is read as a server's is.
    """

    thread: LLMThread
    request: ChatRequest
    total: float | None

    async def fetch(self) -> HTTPReply:
        """Generate it and take the whole answer."""
        try:
            async with asyncio.timeout(self.total):
                with self.thread.job(self.request) as job:
                    body = await job.answer()
        except TimeoutError as error:
            msg = f"no whole answer from vLLM in this process within {self.total:g} s"
            raise APITimeoutError(msg, clock="total") from error
        return HTTPReply(200, {"Content-Type": "application/json"}, to_json(body))

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[HTTPStream]:
        """Generate it; every step's tokens come as a chunk."""
        with self.thread.job(self.request) as job:
            yield HTTPStream(200, {"Content-Type": "text/event-stream"}, _events(job))


async def _events(job: Job) -> AsyncIterator[bytes]:
    while (body := await job.answer()) is not END:
        yield b"data: " + to_json(body) + b"\n\n"
    yield b"data: [DONE]\n\n"
