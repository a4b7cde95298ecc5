"""Our deltas as the stream events of a DSPy from 3.4 on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspy import lm15

from llmengine.integrations.dspy.chat_body import finish_of
from llmengine.types.outputs import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.types.outputs import Delta

# Places in the assembled message: thoughts, text, then the tools in their order.
_THINKING, _TEXT, _FIRST_TOOL = 0, 1, 2


class Events:
    """The events of one streamed answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._finish: str | None = None
        self._usage = Usage()

    def start(self) -> lm15.StreamStartEvent:
        """The event before all others."""
        return lm15.StreamStartEvent(model=self._model)

    def of(self, delta: Delta) -> Iterator[Any]:
        """The events that one delta is; its finish and its usage are kept for the end."""
        self._finish = delta.finish_reason or self._finish
        self._usage = delta.usage or self._usage
        if delta.reasoning:
            yield _event(lm15.ThinkingDelta(delta.reasoning, part_index=_THINKING))
        if delta.text:
            yield _event(lm15.TextDelta(delta.text, part_index=_TEXT))
        for call in delta.tool_calls:
            place = _FIRST_TOOL + call.index
            yield _event(
                lm15.ToolCallDelta(
                    call.arguments, part_index=place, id=call.id or None, name=call.name or None
                )
            )

    def end(self) -> lm15.StreamEndEvent:
        """The event after all others."""
        # Only an answer that ran on in whitespace, and was hung up on, has no finish of its own.
        reason = finish_of(self._finish or "length")
        return lm15.StreamEndEvent(
            finish_reason="tool_call" if reason == "tool_calls" else reason,
            usage=usage_of(self._usage),
        )


def usage_of(usage: Usage) -> lm15.Usage:
    """The token counts in DSPy's names; what no server told stays unknown."""
    return lm15.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cache_read_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _event(delta: Any) -> lm15.StreamDeltaEvent:
    return lm15.StreamDeltaEvent(delta)
