"""One request on its way through vLLM."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.values.request import ChatRequest

END = None
"""Comes after the last chunk of a stream."""


@dataclass(slots=True, eq=False)
class Job:
    """A request, and on the loop the answers to it.

    An answer is the body of a chat completion; of a stream it is the body of a chunk, and END
    after the last; or it is the exception that ended it.
    """

    request: ChatRequest
    answers: asyncio.Queue[Any] = field(default_factory=asyncio.Queue, init=False)

    async def answer(self) -> Any:
        """The next answer; raises one that is an exception."""
        answer = await self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer
