"""The interface of a wire format: protocols that each dialect implements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmengine.types.outputs import Delta, LLMOutput
    from llmengine.types.request import ChatRequest


class StreamDecoder(Protocol):
    """Turns the bytes of one streamed answer into deltas; the pieces may be of any size."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes; keep-alive comments give none.

        Raises a CallError for an error that the server sent in the stream, and
        UnexpectedResponseError for an event that does not belong to the format. Both hold
        `partial`.
        """
        ...

    def end(self) -> list[Delta]:
        """The deltas that the end of the body completes, such as those of its last event.

        Raises the same errors as `feed`.
        """
        ...

    def finish(self) -> LLMOutput:
        """The whole answer, once the body has ended; calls `end` if it was not called yet.

        Raises StreamIncompleteError, which holds what had arrived, if no terminal event came, and
        UnexpectedResponseError if the stream ended but did not answer the whole request.
        """
        ...

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is False until the terminal event.

        It has at least one answer, which is empty if nothing has arrived.
        """
        ...


class Dialect(Protocol):
    """One wire format of chat: its route, its request bodies and its answers."""

    @property
    def path(self) -> str:
        """The route under the engine's base URL, such as ``/chat/completions``."""
        ...

    @property
    def stream_type(self) -> str:
        """The media type of a streamed answer, such as ``text/event-stream``."""
        ...

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send, ready for JSON.

        Raises InvalidRequestError for a parameter that this format has no field for.
        """
        ...

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a whole, successful body.

        Raises UnexpectedResponseError if the body is not an answer in this format.
        """
        ...

    def decoder(self, request: ChatRequest) -> StreamDecoder:
        """A new decoder for the streamed answer to `request`."""
        ...
