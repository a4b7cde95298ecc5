"""How the text of an answer becomes a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmengine.types.request import ChatRequest

Message = dict[str, Any]
"""The fields of a chat message, or what a chunk adds to them, as on the wire."""

Readers = Callable[["ChatRequest"], "Reader"]
"""Makes a reader of the answers to a request."""


class Reader(Protocol):
    """Reads the answers to one request: vLLM's ``CompletionOutput`` in, messages out."""

    def adjust(self, params: Any) -> None:
        """Put into ``vllm.SamplingParams`` what the reading needs."""
        ...

    def message(self, answer: Any, prompt: list[int]) -> Message:
        """The message in a whole answer to the tokens of `prompt`."""
        ...

    def delta(self, answer: Any, prompt: list[int]) -> Message:
        """What a step's text and tokens add to the message."""
        ...

    def finish_reason(self, answer: Any) -> str | None:
        """Why the answer ended, once it has been read."""
        ...

    @property
    def reasoning_tokens(self) -> int | None:
        """How many of the tokens read so far were reasoning; None where nobody counts."""
        ...


class PlainReader:
    """The text as it is; ``<think>`` tags in it are read by the dialect."""

    reasoning_tokens: int | None = None

    def adjust(self, params: Any) -> None:
        """Nothing is needed."""

    def message(self, answer: Any, prompt: list[int]) -> Message:  # noqa: ARG002 - see Reader
        """The text is the content."""
        return {"content": answer.text}

    delta = message

    def finish_reason(self, answer: Any) -> str | None:
        """The reason that vLLM gives."""
        reason: str | None = answer.finish_reason
        return reason
