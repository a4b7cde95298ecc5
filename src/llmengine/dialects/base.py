"""What a wire format is to the rest of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmengine.types.outputs import Delta, LLMOutput
    from llmengine.types.request import ChatRequest


class StreamDecoder(Protocol):
    """Turns the bytes of one streamed answer into deltas, wherever they are cut."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes; keep-alive comments give none.

        Raises a CallError for an error that the server sent in the stream, and
        UnexpectedResponseError for an event that is not the protocol's; both hold `partial`.
        """
        ...

    def end(self) -> list[Delta]:
        """The deltas that the end of the body completes: what its last event brought.

        Raises as `feed` does.
        """
        ...

    def finish(self) -> LLMOutput:
        """The whole answer, once the body has ended; calls `end` if nobody has.

        Raises StreamIncompleteError, holding what had arrived, if no terminal event came, and
        UnexpectedResponseError for an end that is not the whole answer to the request.
        """
        ...

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far, with ``finished`` False until the terminal event.

        It has at least one answer, empty if nothing has arrived.
        """
        ...


class Dialect(Protocol):
    """One wire format of chat: where to post, what to send, how to read what comes back."""

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

        Raises InvalidRequestError for a parameter that this format cannot say.
        """
        ...

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a whole, successful body.

        Raises UnexpectedResponseError if the body is not this format's.
        """
        ...

    def decoder(self, request: ChatRequest) -> StreamDecoder:
        """A new decoder for the streamed answer to `request`."""
        ...
