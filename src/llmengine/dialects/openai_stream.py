"""Reading a streamed answer of OpenAI's chat format."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects import openai_answer
from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import failed_reason, stream_failure
from llmengine.dialects.fields import (
    CHAT_USAGE,
    FieldError,
    count,
    label,
    mapping,
    objects,
    read_usage,
    whole_numbers,
)
from llmengine.dialects.openai_content import content, reasoning
from llmengine.dialects.sse import SSEDecoder
from llmengine.dialects.wire import incomplete, not_read, too_few, unexpected
from llmengine.types.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest

_DONE = b"[DONE]"
_DELTA = "choices[].delta."


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
        "_warnings",
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
        self._warnings: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for an
        event that is no chunk; both hold `partial`.
        """
        deltas: list[Delta] = []
        for event in self._events.feed(data):
            if event.strip() == _DONE:
                self._end(deltas)
            elif not self._done:
                self._chunk(self._parsed(event), event, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of an event without its blank line, and the usage of a stream without [DONE].

        An event that is cut is dropped.
        """
        deltas: list[Delta] = []
        for event in self._events.finish():
            if event.strip() == _DONE:
                self._end(deltas)
            elif not self._done and isinstance(chunk := _json(event), dict):
                self._chunk(chunk, event, deltas)
        if self._is_complete:
            self._tell_usage(deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer; StreamIncompleteError, with `partial`, if its end has not come.

        Raises UnexpectedResponseError if fewer answers came than were asked for.
        """
        self.end()
        partial = self.partial
        if partial.finished:
            return partial
        if not self._choices and self._events.stray is not None:
            raise self._holding(unexpected("the answer is not an event stream", self._events.stray))
        if self._done and self._choices and self._have_ended:
            raise too_few(partial, self._request, _DONE)
        raise incomplete(partial)

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` once its end has come."""
        parts = [self._choices[i] for i in sorted(self._choices)] or [self._parts(0)]
        return LLMOutput(
            self._id or self._request.request_id,
            self._request.prompt,
            tuple([part.output() for part in parts]),
            self._is_complete,
            self._prompt_token_ids,
            self._usage,
            self._model,
            warnings=tuple(self._warnings.values()),
        )

    @property
    def _is_complete(self) -> bool:
        # A further choice may have been cut off before its first chunk, with [DONE] too.
        if not self._choices or len(self._choices) < (self._request.sampling.n or 1):
            return False
        return self._have_ended

    @property
    def _have_ended(self) -> bool:
        choices = self._choices.values()
        if all(c.finish_reason is not None for c in choices):
            return True
        return self._done and self._done_completes and all(c.has_content for c in choices)

    def _parts(self, index: int) -> AnswerParts:
        return AnswerParts(index, self._request.reasoning)

    def _parsed(self, event: bytes) -> dict[str, Any]:
        chunk = _json(event)
        if not isinstance(chunk, dict):
            raise self._holding(unexpected("an event of the stream is not a JSON object", event))
        return chunk

    def _chunk(self, chunk: dict[str, Any], event: bytes, deltas: list[Delta]) -> None:
        if chunk.get("error"):
            raise self._holding(stream_failure(chunk))
        try:
            self._take(chunk, deltas)
        except FieldError as error:
            what = "an event of the stream is not a chat completion chunk"
            raise self._holding(not_read(what, error, event)) from None

    def _take(self, chunk: Mapping[str, Any], deltas: list[Delta]) -> None:
        self._id = self._id or label(chunk, "id", self._warnings) or ""
        self._model = self._model or label(chunk, "model", self._warnings)
        if self._prompt_token_ids is None:
            ids = self._prompt_token_ids = whole_numbers(chunk, "prompt_token_ids")
            if ids is not None:
                deltas.append(Delta(prompt_token_ids=ids))
        usage = chunk.get("usage")
        if usage:
            self._usage = read_usage(usage, CHAT_USAGE, self._warnings)
        choices = objects(chunk, "choices")
        if not choices and usage is None and "choices" not in chunk:
            raise FieldError("choices is missing")
        for choice in choices:
            delta = self._choice(choice)
            if delta is not None:
                deltas.append(delta)
        if usage and not choices:
            self._tell_usage(deltas)

    def _choice(self, choice: Mapping[str, Any]) -> Delta | None:
        if choice.get("error"):
            raise self._holding(stream_failure(choice))
        index = count(choice, "index", "choices[].") or 0
        parts = self._choices.get(index)
        if parts is None:
            parts = self._choices[index] = self._parts(index)
        if choice.get("stop_reason") is not None:
            parts.stop_reason = openai_answer.stop_reason(choice)
        delta = mapping(choice, "delta", "choices[].") or {}
        if delta.get("refusal"):
            parts.refused = True
        calls = objects(delta, "tool_calls", _DELTA)
        reason = openai_answer.finish_reason(
            choice, refused=parts.refused, called=parts.called or bool(calls)
        )
        added = parts.add(
            content(delta, _DELTA),
            reasoning(delta, _DELTA),
            calls,
            openai_answer.choice_logprobs(choice),
            reason,
            token_ids=whole_numbers(choice, "token_ids", "choices[]."),
        )
        if (failed := failed_reason(reason)) is not None:
            raise self._holding(failed)
        return added

    def _end(self, deltas: list[Delta]) -> None:
        """What ``[DONE]`` brings out: text held back, and usage that was told along the way."""
        if self._done:
            return
        self._done = True
        deltas.extend([d for c in self._choices.values() if (d := c.end()) is not None])
        self._tell_usage(deltas)

    def _tell_usage(self, deltas: list[Delta]) -> None:
        if self._usage is not None and not self._told_usage:
            self._told_usage = True
            deltas.append(Delta(usage=self._usage))

    def _holding(self, error: CallError) -> CallError:
        """The error with all that has arrived."""
        error.partial = replace(self.partial, finished=False)
        return error


def _json(event: bytes) -> Any:
    try:
        return from_json(event)
    except ValueError:
        return None
