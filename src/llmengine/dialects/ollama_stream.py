"""Reading a streamed answer of Ollama's native chat."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects import ollama_answer
from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import failed_reason, stream_failure
from llmengine.dialects.fields import (
    OLLAMA_USAGE,
    FieldError,
    label,
    objects,
    read_usage,
    required_mapping,
)
from llmengine.dialects.ndjson import NDJSONDecoder
from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.wire import incomplete, logprobs, not_read, unexpected
from llmengine.types.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest


class OllamaChatDecoder:
    """Turns the lines of one call into deltas; see ``base.StreamDecoder``.

    An answer is whole once a line says ``"done": true``.
    """

    __slots__ = ("_calls", "_done", "_lines", "_model", "_parts", "_request", "_usage", "_warnings")

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._lines = NDJSONDecoder()
        self._parts = AnswerParts(0, request.reasoning)
        self._calls = 0
        self._done = False
        self._model: str | None = None
        self._usage: Usage | None = None
        self._warnings: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for a
        line that is no part of a chat; both hold `partial`.
        """
        deltas: list[Delta] = []
        for line in self._lines.feed(data):
            try:
                value = from_json(line)
            except ValueError:
                what = "a line of the stream is not JSON"
                raise self._holding(unexpected(what, line)) from None
            self._line(value, line, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of a last line without its line feed; an object that is cut is dropped."""
        deltas: list[Delta] = []
        for line in self._lines.finish():
            try:
                value = from_json(line)
            except ValueError:
                if line.lstrip().startswith(b"{"):
                    continue  # `finish` says that the stream is incomplete
                what = "the stream ends in a line that is not JSON"
                raise self._holding(unexpected(what, line)) from None
            self._line(value, line, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError, with `partial`, if its end has not come, and
        ContextLengthError if the server read less than the whole prompt.
        """
        self.end()
        if not self._done:
            raise incomplete(self.partial)
        refuse_a_cut_prompt(self.partial, self._request)
        return self.partial

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` once its end has come."""
        return LLMOutput(
            self._request.request_id,
            self._request.prompt,
            (self._parts.output(),),
            self._done,
            usage=self._usage,
            model=self._model,
            warnings=tuple(self._warnings.values()),
        )

    def _line(self, value: Any, line: bytes, deltas: list[Delta]) -> None:
        if self._done:
            return
        if not isinstance(value, dict):
            raise self._holding(unexpected("a line of the stream is not a JSON object", line))
        if value.get("error"):
            raise self._holding(stream_failure(value))
        if ollama_answer.only_loaded(value):
            what = "the server only loaded or unloaded the model"
            raise self._holding(unexpected(what, line))
        try:
            self._take(value, deltas)
        except FieldError as error:
            what = "a line of the stream is not part of a chat"
            raise self._holding(not_read(what, error, line)) from None

    def _take(self, value: Mapping[str, Any], deltas: list[Delta]) -> None:
        self._model = self._model or label(value, "model", self._warnings)
        message = required_mapping(value, "message")
        calls = [self._whole_call(c) for c in objects(message, "tool_calls", ollama_answer.PATH)]
        is_last = value.get("done") is True
        reason = None
        if is_last:
            reason = ollama_answer.finish_reason(value, has_calls=self._calls > 0)
            self._usage = read_usage(value, OLLAMA_USAGE, self._warnings)
        delta = self._parts.add(
            ollama_answer.content(message),
            ollama_answer.thinking(message),
            calls,
            logprobs(value, "logprobs", ""),
            reason,
        )
        if (failed := failed_reason(reason)) is not None:
            raise self._holding(failed)
        self._done = is_last
        if delta is not None:
            deltas.append(delta)
        if self._done and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    def _whole_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """A call, which Ollama never cuts up, as a fragment that is all of it."""
        name, arguments = ollama_answer.call_function(call)
        place, self._calls = self._calls, self._calls + 1
        return {
            "id": ollama_answer.call_id(call, place),
            "function": {"name": name, "arguments": arguments},
        }

    def _holding(self, error: CallError) -> CallError:
        """The error with all that has arrived."""
        error.partial = replace(self.partial, finished=False)
        return error
