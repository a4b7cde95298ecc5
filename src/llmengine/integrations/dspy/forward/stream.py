"""Our deltas as the chunks that DSPy's listeners read before 3.4, and as the answer they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.from_thread
import dspy
import litellm

from llmengine.integrations.dspy.chat_body import finish_of, usage_body
from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from llmengine.types.outputs import Delta


def send_all(deltas: Iterator[Delta], model: str) -> Any:
    """Send every delta on as it comes; the whole answer.

    The program runs on a worker thread of the loop that reads the stream.
    """
    answer, send = _Answer(model), dspy.settings.send_stream.send
    for delta in deltas:
        for chunk in answer.chunks(delta):
            anyio.from_thread.run(send, chunk)
    return answer.whole()


async def asend_all(deltas: AsyncIterator[Delta], model: str) -> Any:
    """`send_all` for a program that runs on the loop itself."""
    answer, send = _Answer(model), dspy.settings.send_stream.send
    async for delta in deltas:
        for chunk in answer.chunks(delta):
            await send(chunk)
    return answer.whole()


class _Answer:
    """One streamed answer in litellm's chunks."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._caller = dspy.settings.caller_predict
        self._sent: list[Any] = []
        self._usage = Usage()

    def chunks(self, delta: Delta) -> Iterator[Any]:
        """The chunk that a delta is; none for what has nothing to read."""
        self._usage = delta.usage or self._usage
        if not delta.has_content and delta.finish_reason is None:
            return
        finish = delta.finish_reason and finish_of(delta.finish_reason)
        choice = {"index": 0, "delta": _delta(delta), "finish_reason": finish}
        chunk = litellm.ModelResponseStream(model=self._model, choices=[choice])
        # How DSPy's listeners know whose answer it is.
        chunk.predict_id = id(self._caller) if self._caller else None
        self._sent.append(chunk)
        yield chunk

    def whole(self) -> Any:
        """The chunks together, as the completion that they were."""
        response = litellm.stream_chunk_builder(self._sent)
        response.usage = litellm.Usage(**usage_body(self._usage))
        return response


def _delta(delta: Delta) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": delta.text or None}
    if delta.reasoning:
        said["reasoning_content"] = delta.reasoning
    if delta.tool_calls:
        said["tool_calls"] = [
            {
                "index": call.index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in delta.tool_calls
        ]
    return said
