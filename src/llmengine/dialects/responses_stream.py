"""Reading a streamed answer of OpenAI's responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import from_json

from llmengine.dialects.assembly import AnswerParts
from llmengine.dialects.failures import stream_failure
from llmengine.dialects.responses_answer import failed, finish_reason, is_answer, usage
from llmengine.dialects.sse import SSEDecoder
from llmengine.dialects.wire import SHAPE_ERRORS, incomplete, logprobs, unexpected
from llmengine.values.outputs import Delta, LLMOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from llmengine.values.outputs import Usage
    from llmengine.values.request import ChatRequest

_DONE = b"[DONE]"  # gateways end every stream with it; it says nothing here
_CALLS = frozenset({"function_call", "custom_tool_call"})


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
    )

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._events = SSEDecoder()
        self._parts = AnswerParts(0)
        self._commentary: set[int] = set()  # output_index of messages that are no answer
        self._unwritten: set[int] = set()  # output_index of calls without a fragment yet
        self._id = ""
        self._model: str | None = None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for an
        event that is none of this API; both hold `partial`.
        """
        deltas: list[Delta] = []
        for raw in self._events.feed(data):
            if raw != _DONE:
                self._event(self._parsed(raw), raw, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer; StreamIncompleteError, with `partial`, if its end has not come."""
        for raw in self._events.finish():
            self._last(raw)
        partial = self.partial
        if partial.finished:
            return partial
        if not self._id and self._events.stray is not None:
            raise unexpected("the answer is not an event stream", self._events.stray)
        raise incomplete(partial)

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` once its end has come."""
        begun = self._parts.has_content or self._parts.finish_reason is not None
        return LLMOutput(
            self._id or self._request.request_id,
            self._request.prompt,
            (self._parts.output(),) if begun else (),
            self._parts.finish_reason is not None,
            usage=self._usage,
            model=self._model,
        )

    def _parsed(self, raw: bytes) -> dict[str, Any]:
        try:
            event = from_json(raw)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._refuse("an event of the stream is not a JSON object", raw)
        return event

    def _last(self, raw: bytes) -> None:
        """Take in an event whose end is missing: all there is of it, or it is cut and dropped."""
        try:
            event = from_json(raw)
        except ValueError:
            return
        if isinstance(event, dict):
            self._event(event, raw, [])

    def _event(self, event: dict[str, Any], raw: bytes, deltas: list[Delta]) -> None:
        if event.get("type") == "error" or event.get("error"):
            error = stream_failure(event)
            error.partial = self.partial
            raise error
        try:
            self._take(event, deltas)
        except SHAPE_ERRORS:
            self._refuse("an event of the stream is not one of a response", raw)

    def _take(self, event: dict[str, Any], deltas: list[Delta]) -> None:
        kind = event["type"].removeprefix("response.")
        reader = self._READERS.get(kind)
        if reader is not None:
            delta = reader(self, event)
            if delta is not None:
                deltas.append(delta)
        if kind in {"completed", "incomplete"} and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    # ---- one reader an event

    def _begun(self, event: Mapping[str, Any]) -> None:
        self._id = event["response"].get("id") or ""
        self._model = event["response"].get("model")

    def _text(self, event: Mapping[str, Any]) -> Delta | None:
        if event.get("output_index") in self._commentary:
            return self._reasoning(event)
        return self._parts.add(event["delta"], logprobs=logprobs(event.get("logprobs") or ()))

    def _refusal(self, event: Mapping[str, Any]) -> Delta | None:
        self._parts.refused = True
        return self._parts.add(event["delta"])

    def _reasoning(self, event: Mapping[str, Any]) -> Delta | None:
        return self._parts.add("", event["delta"])

    def _summary_part(self, event: Mapping[str, Any]) -> Delta | None:
        return self._parts.add("", "\n\n") if event.get("summary_index") else None

    def _item(self, event: Mapping[str, Any]) -> Delta | None:
        item, place = event["item"], event["output_index"]
        if item["type"] == "message" and not is_answer(item):
            self._commentary.add(place)
        if item["type"] not in _CALLS:
            return None
        self._unwritten.add(place)
        return self._call(place, {"name": item["name"]}, item.get("call_id"))

    def _arguments(self, event: Mapping[str, Any]) -> Delta | None:
        self._unwritten.discard(event["output_index"])
        return self._call(event["output_index"], {"arguments": event["delta"]})

    def _item_done(self, event: Mapping[str, Any]) -> Delta | None:
        """The arguments of a call that were not streamed: servers may give them at the end."""
        item, place = event["item"], event["output_index"]
        if place not in self._unwritten:
            return None
        self._unwritten.discard(place)
        return self._call(place, {"arguments": item.get("arguments") or item.get("input") or ""})

    def _call(
        self, place: int, function: dict[str, Any], call_id: str | None = None
    ) -> Delta | None:
        return self._parts.add("", "", [{"id": call_id, "index": place, "function": function}])

    def _ended(self, event: Mapping[str, Any]) -> Delta | None:
        response = event["response"]
        self._begun(event)
        self._usage = usage(response.get("usage"))
        calls = bool(self._parts.output().tool_calls)
        reason = finish_reason(response, refused=self._parts.refused, calls=calls)
        return self._parts.add("", finish_reason=reason)

    def _failed(self, event: Mapping[str, Any]) -> None:
        error = failed(event["response"], self._request)
        self._usage = error.usage
        error.partial = self.partial
        raise error

    def _refuse(self, what: str, raw: bytes) -> NoReturn:
        error = unexpected(what, raw)
        error.partial = self.partial
        raise error from None

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
