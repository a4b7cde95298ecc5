"""Reading a streamed answer of Ollama's native chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects import ollama_answer
from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import stream_failure
from llmengine.dialects.ndjson import NDJSONDecoder
from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.wire import SHAPE_ERRORS, incomplete, logprobs, unexpected
from llmengine.values.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from llmengine.values.outputs import Usage
    from llmengine.values.request import ChatRequest


class OllamaChatDecoder:
    """Turns the lines of one call into deltas; see ``base.StreamDecoder``.

    An answer is whole once a line says ``"done": true``.
    """

    __slots__ = ("_calls", "_done", "_lines", "_model", "_parts", "_request", "_usage")

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._lines = NDJSONDecoder()
        self._parts = AnswerParts(0)
        self._calls = 0
        self._done = False
        self._model: str | None = None
        self._usage: Usage | None = None

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
                self._refuse("a line of the stream is not JSON", line)
            self._line(value, line, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError, with `partial`, if its end has not come, and
        ContextLengthError if the server read less than the whole prompt.
        """
        for line in self._lines.finish():
            try:
                value = from_json(line)
            except ValueError:
                if not line.lstrip().startswith(b"{"):
                    self._refuse("the stream ends in a line that is not JSON", line)
                continue  # an object that is cut: the check below says so
            self._line(value, line, [])
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
        )

    def _line(self, value: Any, line: bytes, deltas: list[Delta]) -> None:
        if self._done:
            return
        if not isinstance(value, dict):
            self._refuse("a line of the stream is not a JSON object", line)
        if value.get("error"):
            error = stream_failure(value)
            error.partial = self.partial
            raise error
        if ollama_answer.only_loaded(value):
            self._refuse("the server only loaded or unloaded the model", line)
        try:
            self._take(value, deltas)
        except SHAPE_ERRORS:
            self._refuse("a line of the stream is not part of a chat", line)

    def _take(self, value: Mapping[str, Any], deltas: list[Delta]) -> None:
        self._model = self._model or value.get("model")
        message = value["message"]
        calls = [self._whole_call(c) for c in message.get("tool_calls") or ()]
        self._done = value.get("done") is True
        reason = ollama_answer.finish_reason(value, has_calls=self._calls > 0)
        delta = self._parts.add(
            ollama_answer.content(message),
            message.get("thinking") or "",
            calls,
            logprobs(value.get("logprobs") or ()),
            reason if self._done else None,
        )
        if delta is not None:
            deltas.append(delta)
        if self._done:
            self._usage = ollama_answer.usage(value)
            if self._usage is not None:
                deltas.append(Delta(usage=self._usage))

    def _whole_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """A call, which Ollama never cuts up, as a fragment that is all of it."""
        function = call["function"]
        place, self._calls = self._calls, self._calls + 1
        return {
            "id": ollama_answer.call_id(call, place),
            "function": {
                "name": function["name"],
                "arguments": ollama_answer.arguments(function),
            },
        }

    def _refuse(self, what: str, line: bytes) -> NoReturn:
        error = unexpected(what, line)
        error.partial = self.partial
        raise error from None
