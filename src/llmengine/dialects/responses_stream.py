"""Reading a streamed answer of OpenAI's responses API."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import from_json

from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import stream_failure
from llmengine.dialects.fields import (
    RESPONSES_USAGE,
    FieldError,
    count,
    json_text,
    label,
    read_usage,
    required_mapping,
    required_text,
    text,
)
from llmengine.dialects.responses_answer import CALLS, failed, finish_reason, is_answer
from llmengine.dialects.sse import SSEDecoder
from llmengine.dialects.wire import incomplete, logprobs, not_read, unexpected
from llmengine.types.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest

_DONE = b"[DONE]"  # gateways end every stream with it; it says nothing here


class ResponsesDecoder:
    """Turns the events of one streamed response into deltas; see ``base.StreamDecoder``.

    The answer is whole when ``response.completed`` or ``response.incomplete`` has come.
    """

    __slots__ = (
        "_commentary",
        "_events",
        "_id",
        "_model",
        "_parts",
        "_request",
        "_unwritten",
        "_usage",
        "_warnings",
    )

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._events = SSEDecoder()
        self._parts = AnswerParts(0, request.reasoning)
        self._commentary: set[int] = set()  # output_index of messages that are no answer
        self._unwritten: set[int] = set()  # output_index of calls without a fragment yet
        self._id = ""
        self._model: str | None = None
        self._usage: Usage | None = None
        self._warnings: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for an
        event that is none of this API; both hold `partial`.
        """
        deltas: list[Delta] = []
        for raw in self._events.feed(data):
            if raw.strip() != _DONE:
                self._event(self._parsed(raw), raw, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of an event without its blank line; one that is cut is dropped."""
        deltas: list[Delta] = []
        for raw in self._events.finish():
            if isinstance(event := _json(raw), dict):
                self._event(event, raw, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer; StreamIncompleteError, with `partial`, if its end has not come."""
        self.end()
        partial = self.partial
        if partial.finished:
            return partial
        if not self._id and self._events.stray is not None:
            raise self._holding(unexpected("the answer is not an event stream", self._events.stray))
        raise incomplete(partial)

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` once its end has come."""
        return LLMOutput(
            self._id or self._request.request_id,
            self._request.prompt,
            (self._parts.output(),),
            self._parts.finish_reason is not None,
            usage=self._usage,
            model=self._model,
            warnings=tuple(self._warnings.values()),
        )

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        event = _json(raw)
        if not isinstance(event, dict):
            raise self._holding(unexpected("an event of the stream is not a JSON object", raw))
        return event

    def _event(self, event: dict[str, Any], raw: bytes, deltas: list[Delta]) -> None:
        if self._parts.finish_reason is not None:
            return  # nothing counts after the end
        if event.get("type") == "error" or event.get("error"):
            raise self._holding(stream_failure(event))
        try:
            self._take(event, deltas)
        except FieldError as error:
            what = "an event of the stream is not one of a response"
            raise self._holding(not_read(what, error, raw)) from None

    def _take(self, event: dict[str, Any], deltas: list[Delta]) -> None:
        kind = required_text(event, "type").removeprefix("response.")
        reader = self._READERS.get(kind)
        if reader is not None:
            delta = reader(self, event)
            if delta is not None:
                deltas.append(delta)
        if kind in {"completed", "incomplete"} and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    # ---- one reader an event

    def _begun(self, event: Mapping[str, Any]) -> None:
        response = required_mapping(event, "response")
        self._id = label(response, "id", self._warnings) or ""
        self._model = label(response, "model", self._warnings)

    def _text(self, event: Mapping[str, Any]) -> Delta | None:
        if count(event, "output_index") in self._commentary:
            return self._reasoning(event)
        return self._parts.add(
            required_text(event, "delta"), logprobs=logprobs(event, "logprobs", "")
        )

    def _refusal(self, event: Mapping[str, Any]) -> Delta | None:
        self._parts.refused = True
        return self._parts.add(required_text(event, "delta"))

    def _reasoning(self, event: Mapping[str, Any]) -> Delta | None:
        return self._parts.add("", required_text(event, "delta"))

    def _summary_part(self, event: Mapping[str, Any]) -> Delta | None:
        return self._parts.add("", "\n\n") if count(event, "summary_index") else None

    def _item(self, event: Mapping[str, Any]) -> Delta | None:
        item = required_mapping(event, "item")
        kind = required_text(item, "type", "item.")
        if kind == "message" and not is_answer(item):
            self._commentary.add(_place(event))
        if kind not in CALLS:  # llama.cpp leaves the output_index out of all items
            return None
        place = _place(event)
        self._unwritten.add(place)
        name = required_text(item, "name", "item.")
        return self._call(place, {"name": name}, text(item, "call_id", "item."))

    def _arguments(self, event: Mapping[str, Any]) -> Delta | None:
        place = _place(event)
        self._unwritten.discard(place)
        return self._call(place, {"arguments": required_text(event, "delta")})

    def _item_done(self, event: Mapping[str, Any]) -> Delta | None:
        """The arguments of a call that were not streamed: servers may give them at the end."""
        item, place = required_mapping(event, "item"), count(event, "output_index")
        if place not in self._unwritten:
            return None
        self._unwritten.discard(place)
        arguments = json_text(item, "arguments", "item.") or json_text(item, "input", "item.")
        return self._call(place, {"arguments": arguments})

    def _call(
        self, place: int, function: dict[str, Any], call_id: str | None = None
    ) -> Delta | None:
        return self._parts.add("", "", [{"id": call_id, "index": place, "function": function}])

    def _ended(self, event: Mapping[str, Any]) -> Delta | None:
        response = dict(required_mapping(event, "response"))
        if event["type"].endswith("incomplete"):
            response["status"] = "incomplete"  # whatever else it says: the answer was cut
        self._begun(event)
        self._usage = read_usage(response.get("usage"), RESPONSES_USAGE, self._warnings)
        reason = finish_reason(response, refused=self._parts.refused, calls=self._parts.called)
        return self._parts.add("", finish_reason=reason)

    def _failed(self, event: Mapping[str, Any]) -> None:
        error = failed(required_mapping(event, "response"), self._request)
        self._usage = error.usage
        raise self._holding(error)

    def _holding(self, error: CallError) -> CallError:
        """The error with all that has arrived."""
        error.partial = replace(self.partial, finished=False)
        return error

    _READERS: ClassVar[dict[str, Callable[[ResponsesDecoder, Mapping[str, Any]], Delta | None]]] = {
        "created": _begun,
        "output_text.delta": _text,
        "refusal.delta": _refusal,
        "reasoning_text.delta": _reasoning,
        "reasoning_summary_text.delta": _reasoning,
        "reasoning_summary_part.added": _summary_part,
        "output_item.added": _item,
        "function_call_arguments.delta": _arguments,
        "custom_tool_call_input.delta": _arguments,
        "output_item.done": _item_done,
        "completed": _ended,
        "incomplete": _ended,
        "failed": _failed,
    }


def _place(event: Mapping[str, Any]) -> int:
    place = count(event, "output_index")
    if place is None:
        raise FieldError("output_index is missing")
    return place


def _json(raw: bytes) -> Any:
    try:
        return from_json(raw)
    except ValueError:
        return None
