"""Reading a streamed answer of OpenAI's chat format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects import openai_answer
from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import stream_failure
from llmengine.dialects.openai_content import content, reasoning
from llmengine.dialects.sse import SSEDecoder
from llmengine.dialects.wire import SHAPE_ERRORS, incomplete, logprobs, unexpected
from llmengine.values.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from llmengine.values.outputs import Usage
    from llmengine.values.request import ChatRequest

_DONE = b"[DONE]"


class OpenAIChatDecoder:
    """Turns the server-sent events of one call into deltas; see ``base.StreamDecoder``.

    An answer is whole when each of its choices got a finish_reason. ``[DONE]`` alone does not
    make it so, for vLLM sends it after its own death too, unless `done_completes` says that
    this server leaves the finish_reason out.
    """

    __slots__ = (
        "_choices",
        "_done",
        "_done_completes",
        "_events",
        "_id",
        "_model",
        "_prompt_token_ids",
        "_request",
        "_told_usage",
        "_usage",
    )

    def __init__(self, request: ChatRequest, *, done_completes: bool = False) -> None:
        self._request = request
        self._done_completes = done_completes
        self._events = SSEDecoder()
        self._choices: dict[int, AnswerParts] = {}
        self._done = False
        self._id = ""
        self._model: str | None = None
        self._prompt_token_ids: tuple[int, ...] | None = None
        self._usage: Usage | None = None
        self._told_usage = False

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for an
        event that is no chunk; both hold `partial`.
        """
        deltas: list[Delta] = []
        for event in self._events.feed(data):
            if event == _DONE:
                self._end(deltas)
            elif not self._done:
                self._chunk(self._parsed(event), event, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer; StreamIncompleteError, with `partial`, if its end has not come."""
        for event in self._events.finish():
            self._last(event)
        if self._is_complete:
            return self.partial
        if not self._choices and self._events.stray is not None:
            raise unexpected("the answer is not an event stream", self._events.stray)
        raise incomplete(self.partial)

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` once its end has come."""
        return LLMOutput(
            self._id or self._request.request_id,
            self._request.prompt,
            tuple([self._choices[i].output() for i in sorted(self._choices)]),
            self._is_complete,
            self._prompt_token_ids,
            self._usage,
            self._model,
        )

    @property
    def _is_complete(self) -> bool:
        choices = self._choices.values()
        if all(c.finish_reason is not None for c in choices):
            # Without [DONE] a further choice may have been cut off before its first chunk.
            return bool(choices) and (self._done or len(choices) >= (self._request.sampling.n or 1))
        return self._done and self._done_completes and all(c.has_content for c in choices)

    def _parsed(self, event: bytes) -> dict[str, Any]:
        try:
            chunk = from_json(event)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            self._refuse("an event of the stream is not a JSON object", event)
        return chunk

    def _last(self, event: bytes) -> None:
        """Take in an event whose end is missing: all there is of it, or it is cut and dropped."""
        if event == _DONE:
            self._end([])
            return
        try:
            chunk = from_json(event)
        except ValueError:
            return
        if isinstance(chunk, dict):
            self._chunk(chunk, event, [])

    def _chunk(self, chunk: dict[str, Any], event: bytes, deltas: list[Delta]) -> None:
        if chunk.get("error"):
            error = stream_failure(chunk)
            error.partial = self.partial
            raise error
        try:
            self._take(chunk, deltas)
        except SHAPE_ERRORS:
            self._refuse("an event of the stream is not a chat completion chunk", event)

    def _take(self, chunk: Mapping[str, Any], deltas: list[Delta]) -> None:
        self._id = self._id or chunk.get("id") or ""
        self._model = self._model or chunk.get("model")
        if self._prompt_token_ids is None and chunk.get("prompt_token_ids") is not None:
            self._prompt_token_ids = tuple(chunk["prompt_token_ids"])
            deltas.append(Delta(prompt_token_ids=self._prompt_token_ids))
        usage = chunk.get("usage")
        if usage:
            self._usage = openai_answer.usage(usage)
        choices = chunk["choices"] if usage is None else chunk.get("choices") or ()
        for choice in choices:
            delta = self._choice(choice)
            if delta is not None:
                deltas.append(delta)
        if usage and not choices:
            self._tell_usage(deltas)

    def _choice(self, choice: Mapping[str, Any]) -> Delta | None:
        index = choice.get("index", 0)
        parts = self._choices.get(index)
        if parts is None:
            parts = self._choices[index] = AnswerParts(index)
        if choice.get("stop_reason") is not None:
            parts.stop_reason = choice["stop_reason"]
        delta, given = choice.get("delta") or {}, choice.get("logprobs")
        if delta.get("refusal"):
            parts.refused = True
        return parts.add(
            content(delta),
            reasoning(delta),
            delta.get("tool_calls") or (),
            logprobs(given["content"]) if given and given.get("content") else (),
            openai_answer.finish_reason(
                choice, refused=parts.refused, called=parts.called or bool(delta.get("tool_calls"))
            ),
            token_ids=choice.get("token_ids"),
        )

    def _end(self, deltas: list[Delta]) -> None:
        """What ``[DONE]`` brings out: text held back, and usage that was told along the way."""
        if self._done:
            return
        self._done = True
        deltas.extend([d for c in self._choices.values() if (d := c.end()) is not None])
        if self._usage is not None:
            self._tell_usage(deltas)

    def _tell_usage(self, deltas: list[Delta]) -> None:
        if not self._told_usage:
            self._told_usage = True
            deltas.append(Delta(usage=self._usage))

    def _refuse(self, what: str, event: bytes) -> NoReturn:
        error = unexpected(what, event)
        error.partial = self.partial
        raise error from None
