"""OpenAI's responses API, used for chat: messages become input items, a response the answer.

The file has the input items first, then the reader of a whole response, the decoder of a
streamed response, and last the dialect, which builds the request bodies.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import from_json

from llmengine.dialects.common import (
    cumulative,
    incomplete,
    logprobs,
    not_read,
    read_object,
    sampling_fields,
    unexpected,
    with_extra,
)
from llmengine.dialects.errors import reported_failure, stream_failure
from llmengine.dialects.fields import (
    RESPONSES_USAGE,
    FieldError,
    count,
    json_text,
    label,
    mapping,
    objects,
    read_usage,
    required_mapping,
    required_text,
    text,
)
from llmengine.dialects.framing import SSEDecoder
from llmengine.dialects.streaming import AnswerParts, split_think
from llmengine.types.errors import InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest, Message, ResponseFormat


_READ = frozenset({"role", "content", "tool_calls", "tool_call_id"})
# Fields that servers add to answers; a request has them if it sends an earlier answer back.
_ANSWERS_OWN = frozenset({"annotations", "reasoning", "reasoning_content", "refusal"})


def input_items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Chat messages as input items, in the same order.

    Raises InvalidRequestError if a message has a field that the items cannot hold.
    """
    return [item for message in messages for item in _items(message)]


def _items(message: Message) -> list[dict[str, Any]]:
    _refuse_unknown(message)
    role, content = message["role"], message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        output = content if isinstance(content, str) else _parts(content or (), "input")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    if content is None and calls:
        return calls
    side = "output" if role == "assistant" else "input"
    text = content if isinstance(content, str) else _parts(content or (), side)
    return [{"role": role, "content": text}, *calls]


def _refuse_unknown(message: Message) -> None:
    known = _READ | _ANSWERS_OWN if message["role"] == "assistant" else _READ
    for name, value in message.items():
        if name not in known and value is not None:
            msg = (
                f"a {message['role']} message has {name!r}, which OpenAI's responses API has no "
                "field for; leave it out, or use the chat API (options: {api: chat})"
            )
            raise InvalidRequestError(msg)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function["name"],
        "arguments": function.get("arguments") or "{}",
    }


def _parts(parts: Sequence[Mapping[str, Any]], side: str) -> list[dict[str, Any]]:
    return [_part(part, side) for part in parts]


def _part(part: Mapping[str, Any], side: str) -> dict[str, Any]:
    """One part of a message's content; a part in the responses API's own format is kept."""
    if part.get("type") == "text":
        return {"type": f"{side}_text", "text": part["text"]}
    if part.get("type") == "image_url":
        image = part["image_url"]
        return {"type": "input_image", "image_url": image["url"]} | (
            {"detail": image["detail"]} if "detail" in image else {}
        )
    if part.get("type") == "file":
        return {"type": "input_file", **part["file"]}
    return dict(part)


_CUT = {"max_output_tokens": "length"}
_ITEM = "output[]."
_CONTENT = f"{_ITEM}content[]."
CALLS = frozenset({"function_call", "custom_tool_call"})
"""Types of the items that call a tool."""


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a response that is completed or incomplete.

    Raises the error that a failed response holds, or UnexpectedResponseError, with a quote of
    the body, for anything else.
    """
    data = read_object(body)
    status = data.get("status")
    try:
        if status == "failed":
            raise failed(data, request)
        if data.get("error"):
            raise _reported(data, request, body)
        if status not in ("completed", "incomplete") or not isinstance(data.get("output"), list):
            raise unexpected(f"the answer is not a finished response ({_status(data)})", body)
        return _output(data, request)
    except FieldError as error:
        raise not_read("the answer is not a response", error, body) from None


def failed(response: Mapping[str, Any], request: ChatRequest) -> CallError:
    """The error of a response that failed; its `partial` holds the usage."""
    error = stream_failure({"error": response.get("error") or {"message": "the response failed"}})
    warnings: dict[str, str] = {}
    error.partial = LLMOutput(
        label(response, "id", warnings) or request.request_id,
        request.prompt,
        (CompletionOutput(0, ""),),
        finished=False,
        usage=read_usage(response.get("usage"), RESPONSES_USAGE, warnings),
        model=label(response, "model", warnings),
        warnings=tuple(warnings.values()),
    )
    return error


def _reported(data: Mapping[str, Any], request: ChatRequest, body: bytes) -> CallError:
    """The error that a body reports next to an answer; a readable answer is its `partial`."""
    error = reported_failure(data, body)
    with suppress(FieldError):
        error.partial = replace(_output(data, request), finished=False)
    return error


def _status(data: Mapping[str, Any]) -> str:
    status = data.get("status")
    return f"status {status!r}" if isinstance(status, str) else "no status"


def _output(data: Mapping[str, Any], request: ChatRequest) -> LLMOutput:
    items = objects(data, "output")
    said = [part for item in items if is_answer(item) for part in objects(item, "content", _ITEM)]
    answered = "".join([_words(part) for part in said])
    thought = "\n\n".join([t for item in items if (t := _thought(item))]) or None
    if thought is None:
        thought, answered = split_think(answered, request.reasoning)
    tokens = tuple([p for part in said for p in logprobs(part, "logprobs", _CONTENT)]) or None
    calls = tuple([_tool_call(item) for item in items if item["type"] in CALLS])
    finish = finish_reason(
        data,
        refused=any(part.get("type") == "refusal" for part in said),
        calls=bool(calls),
    )
    warnings: dict[str, str] = {}
    answer = CompletionOutput(
        0, answered, None, cumulative(tokens), tokens, finish, None, thought, calls
    )
    return LLMOutput(
        label(data, "id", warnings) or request.request_id,
        request.prompt,
        (answer,),
        usage=read_usage(data.get("usage"), RESPONSES_USAGE, warnings),
        model=label(data, "model", warnings),
        warnings=tuple(warnings.values()),
    )


def is_answer(item: Mapping[str, Any]) -> bool:
    """Whether an item is a message with the final answer, not a commentary on the work."""
    if required_text(item, "type", _ITEM) != "message":
        return False
    return text(item, "phase", _ITEM) in {None, "final_answer"}


def finish_reason(response: Mapping[str, Any], *, refused: bool, calls: bool) -> str:
    """Why the answer ended, in the terms of chat completions; "refusal" for a refusal."""
    if response.get("status") == "incomplete":
        details = mapping(response, "incomplete_details") or {}
        reason = text(details, "reason", "incomplete_details.") or "incomplete"
        return _CUT.get(reason, reason)
    if refused:
        return "refusal"
    return "tool_calls" if calls else "stop"


def _thought(item: Mapping[str, Any]) -> str:
    """The reasoning in an item: the full text if the server gives it, else the summary."""
    if item["type"] == "reasoning":
        return _joined(item, "content") or _joined(item, "summary", "\n\n")
    if item["type"] == "message" and not is_answer(item):
        return _joined(item, "content")
    return ""


def _joined(item: Mapping[str, Any], key: str, between: str = "") -> str:
    return between.join([text(p, "text", _CONTENT) or "" for p in objects(item, key, _ITEM)])


def _words(part: Mapping[str, Any]) -> str:
    return text(part, "text", _CONTENT) or text(part, "refusal", _CONTENT) or ""


def _tool_call(item: Mapping[str, Any]) -> ToolCall:
    key = "arguments" if item["type"] == "function_call" else "input"
    return ToolCall(
        text(item, "call_id", _ITEM) or "",
        required_text(item, "name", _ITEM),
        json_text(item, key, _ITEM),
    )


_DONE = b"[DONE]"  # gateways end every stream with it; it has no meaning in this format


class ResponsesDecoder:
    """Turns the events of one streamed response into deltas; see ``base.StreamDecoder``.

    The answer is complete when ``response.completed`` or ``response.incomplete`` has come.
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
        self._commentary: set[int] = set()  # output_index of messages that are not the answer
        self._unwritten: set[int] = set()  # output_index of calls without a fragment yet
        self._id = ""
        self._model: str | None = None
        self._usage: Usage | None = None
        self._warnings: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes.

        Raises the error that the server sent in the stream, or UnexpectedResponseError for an
        event that does not belong to this API. Both hold `partial`.
        """
        deltas: list[Delta] = []
        for raw in self._events.feed(data):
            if raw.strip() != _DONE:
                self._event(self._parsed(raw), raw, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of a last event without its blank line; an event that is cut is dropped."""
        deltas: list[Delta] = []
        for raw in self._events.finish():
            if isinstance(event := _json(raw), dict):
                self._event(event, raw, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError, with `partial`, if the end of the answer has not come, and
        UnexpectedResponseError if the answer is not an event stream.
        """
        self.end()
        partial = self.partial
        if partial.finished:
            return partial
        if not self._id and self._events.stray is not None:
            raise self._holding(unexpected("the answer is not an event stream", self._events.stray))
        raise incomplete(partial)

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
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

    # ---- one reader per type of event

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
        """The arguments of a call that were not streamed; some servers send them at the end."""
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
            response["status"] = "incomplete"  # the answer was cut, whatever its own status says
        self._begun(event)
        self._usage = read_usage(response.get("usage"), RESPONSES_USAGE, self._warnings)
        reason = finish_reason(response, refused=self._parts.refused, calls=self._parts.called)
        return self._parts.add("", finish_reason=reason)

    def _failed(self, event: Mapping[str, Any]) -> None:
        error = failed(required_mapping(event, "response"), self._request)
        self._usage = error.usage
        raise self._holding(error)

    def _holding(self, error: CallError) -> CallError:
        """The error, with all that has arrived as its `partial`."""
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


# See CreateResponse in openai-openapi; it has no n, seed, stop, penalties or logit_bias.
_SAMPLING = {
    "max_tokens": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "top_logprobs",
}
_JOINED = frozenset({"reasoning", "text"})


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The responses format; the server stores nothing unless ``extra_body`` asks for it.

    ``advice`` says what to do about a sampling parameter that the format has no field for. It is
    part of the error message.
    """

    path: str = "/responses"
    stream_type: str = "text/event-stream"
    advice: str = "leave it out"

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter or a message that this API has no
        field for.
        """
        body: dict[str, Any] = {
            "model": request.model,
            "input": input_items(request.messages),
            "store": False,
        }
        body |= self._sampling(request)
        if request.response_format is not None:
            body["text"] = {"format": _format(request.response_format)}
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.reasoning is not None:
            body["reasoning"] = {"effort": _effort(request.reasoning)}
        if request.stream:
            body["stream"] = True
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a body that was not streamed; raises as `openai_responses.decode`."""
        return decode(body, request)

    def decoder(self, request: ChatRequest) -> ResponsesDecoder:
        """A new decoder for the streamed answer to `request`."""
        return ResponsesDecoder(request)

    def _sampling(self, request: ChatRequest) -> dict[str, Any]:
        fields = sampling_fields(
            request.sampling, _SAMPLING, "OpenAI's responses API", advice=self.advice
        )
        if "top_logprobs" in fields:
            fields["include"] = ["message.output_text.logprobs"]
        return fields


def _format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in chat format, flattened; a built-in tool of the server is kept as it is."""
    if "function" not in tool:
        return dict(tool)
    # If strict is left out, it means true in this API and false in chat completions.
    return {"type": "function", "strict": False, **tool["function"]}


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    if isinstance(choice, str) or "function" not in choice:
        return choice
    return {"type": "function", "name": choice["function"]["name"]}


def _effort(reasoning: bool | str) -> str:
    """The effort to send. OpenAI has no on/off switch; "medium" is its default, "none" is off."""
    if isinstance(reasoning, str):
        return reasoning
    return "medium" if reasoning else "none"
