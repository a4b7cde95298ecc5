"""The interface of a wire format, and the base class of the decoders of streamed answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic_core import from_json

from llmengine.dialects.common import incomplete, not_read, unexpected
from llmengine.dialects.errors import stream_failure
from llmengine.dialects.fields import FieldError
from llmengine.types.outputs import LLMOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.dialects.framing import NDJSONDecoder, SSEDecoder
    from llmengine.types.errors import CallError
    from llmengine.types.outputs import CompletionOutput, Delta, Usage
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

    def encode(self, request: ChatRequest) -> dict[str, object]:
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


class JSONStreamDecoder(ABC):
    """The base class of the decoders: it reads a stream as JSON objects, one per frame.

    A frame is a server-sent event or a line. A subclass reads one object at a time. The `partial`
    of every error holds what had arrived.
    """

    __slots__ = ("_done", "_frames", "_id", "_model", "_request", "_usage", "_warnings")

    _FRAME: ClassVar[str] = "an event of the stream"
    _EXPECTED: ClassVar[str]  # what each object is, for error messages

    def __init__(self, request: ChatRequest, frames: SSEDecoder | NDJSONDecoder) -> None:
        self._request = request
        self._frames = frames
        self._done = False  # whether the terminal event has come; what follows it is ignored
        self._id: str | None = None
        self._model: str | None = None
        self._usage: Usage | None = None
        self._warnings: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for a
        frame that does not belong to the format.
        """
        deltas: list[Delta] = []
        for frame in self._frames.feed(data):
            self._read_frame(frame, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of a last frame without its end; a frame that is cut is dropped."""
        deltas: list[Delta] = []
        for frame in self._frames.finish():
            if not self._is_cut(frame):
                self._read_frame(frame, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError if the end of the answer has not come, and
        UnexpectedResponseError if the stream is not an answer in this format.
        """
        self.end()
        partial = self.partial
        if not partial.finished:
            raise self._not_finished(partial)
        return partial

    @property
    @abstractmethod
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""

    @abstractmethod
    def _read_object(self, value: Mapping[str, object], deltas: list[Delta]) -> None:
        """Read one object of the stream and add the deltas that it completes.

        Raises FieldError for an object of another kind.
        """

    def _is_cut(self, frame: bytes) -> bool:
        """Whether the last frame, whose end is missing, is only the beginning of a frame."""
        return not isinstance(parsed(frame), dict)

    def _read_other(self, frame: bytes) -> list[Delta]:
        """The deltas of a frame that is not a JSON object; by default, it is an error."""
        raise self._with_partial(unexpected(f"{self._FRAME} is not a JSON object", frame))

    def _not_finished(self, partial: LLMOutput) -> CallError:
        """The error for a stream that has ended although the answer has not."""
        return incomplete(partial)

    def _read_frame(self, frame: bytes, deltas: list[Delta]) -> None:
        if self._done:
            return
        value = parsed(frame)
        if not isinstance(value, dict):
            deltas += self._read_other(frame)
            return
        if value.get("error") or value.get("type") == "error":
            raise self._with_partial(stream_failure(value))
        try:
            self._read_object(value, deltas)
        except FieldError as error:
            problem = f"{self._FRAME} is not {self._EXPECTED}"
            raise self._with_partial(not_read(problem, error, frame)) from None

    def _output(
        self,
        outputs: tuple[CompletionOutput, ...],
        *,
        finished: bool,
        prompt_token_ids: tuple[int, ...] | None = None,
    ) -> LLMOutput:
        return LLMOutput(
            self._id or self._request.request_id,
            self._request.prompt,
            outputs,
            finished,
            prompt_token_ids,
            usage=self._usage,
            model=self._model,
            warnings=tuple(self._warnings.values()),
        )

    def _with_partial(self, error: CallError) -> CallError:
        error.partial = replace(self.partial, finished=False)
        return error


def parsed(frame: bytes) -> object:
    """The JSON value in a frame; None if it is not valid JSON."""
    try:
        return from_json(frame)
    except ValueError:
        return None
