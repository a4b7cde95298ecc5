"""One request on its way through vLLM."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.types.request import ChatRequest

END = None
"""Comes after the last chunk of a stream."""


@dataclass(slots=True, eq=False)
class Job:
    """A request, and on the loop the answers to it.

    An answer is the body of a chat completion; of a stream it is the body of a chunk, and END
    after the last; or it is the exception that ended it. ``is_over`` says that the last has come.
    """

    request: ChatRequest
    is_over: bool = field(default=False, init=False)
    _answers: asyncio.Queue[Any] = field(default_factory=asyncio.Queue, init=False)

    def take(self, answer: Any) -> None:
        """An answer has come."""
        ends_stream = answer is END or isinstance(answer, Exception)
        self.is_over = ends_stream or not self.request.stream
        self._answers.put_nowait(answer)

    async def answer(self) -> Any:
        """The next answer; raises one that is an exception."""
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer
