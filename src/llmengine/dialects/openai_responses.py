"""OpenAI's responses API, used for chat: messages become input items, a response the answer.

The file has the input items first, then the reader of a whole response, the decoder of a
streamed response, and last the dialect, which builds the request bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from llmengine.dialects.base import JSONStreamDecoder
from llmengine.dialects.common import (
    answer_of,
    cumulative,
    incomplete,
    logprobs,
    not_read,
    read_object,
    sampling_fields,
    split_think,
    unexpected,
    with_extra,
)
from llmengine.dialects.errors import reported_failure, stream_failure
from llmengine.dialects.fields import (
    RESPONSES_USAGE,
    FieldError,
    any_mapping,
    any_mappings,
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
from llmengine.dialects.streaming import AnswerParts
from llmengine.types.errors import InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest, Message, ResponseFormat


_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id"})
# Fields that servers add to answers; a request has them if it sends an earlier answer back.
_ANSWER_FIELDS = frozenset({"annotations", "reasoning", "reasoning_content", "refusal"})


def input_items(messages: Sequence[Message]) -> list[dict[str, object]]:
    """Chat messages as input items, in the same order.

    Raises InvalidRequestError, which names the message, if the items cannot hold it.
    """
    items: list[dict[str, object]] = []
    for place, message in enumerate(messages):
        try:
            items += _items(message)
        except FieldError as error:
            raise InvalidRequestError(f"message {place}: {error}") from None
    return items


def _items(message: Message) -> list[dict[str, object]]:
    _refuse_unknown(message)
    role, content = message["role"], message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        output = _content(message, "input")
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    calls = [_call(call) for call in any_mappings(message, "tool_calls")]
    if content is None and calls:
        return calls
    side = "output" if role == "assistant" else "input"
    return [{"role": role, "content": _content(message, side)}, *calls]


def _refuse_unknown(message: Message) -> None:
    role = message["role"]
    known = _FIELDS | _ANSWER_FIELDS if role == "assistant" else _FIELDS
    for name, value in message.items():
        if name not in known and value is not None:
            raise FieldError(
                f"OpenAI's responses API has no field for {name!r} of a message with the role "
                f"{role!r}; leave it out, or use the chat API (options: {{api: chat}})"
            )


def _call(call: Mapping[str, object]) -> dict[str, object]:
    function = any_mapping(call, "function", "tool_calls[].")
    return {
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments") or "{}",
    }


def _content(message: Message, side: str) -> str | list[dict[str, object]]:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return [_part(part, side) for part in any_mappings(message, "content")]


def _part(part: Mapping[str, object], side: str) -> dict[str, object]:
    """One part of a message's content; a part in the responses API's own format is kept."""
    kind = part.get("type")
    if kind == "text":
        return {"type": f"{side}_text", "text": part.get("text")}
    if kind == "image_url":
        image = any_mapping(part, "image_url", "content[].")
        item = {"type": "input_image", "image_url": image.get("url")}
        return item | {"detail": image["detail"]} if "detail" in image else item
    if kind == "file":
        return {"type": "input_file", **any_mapping(part, "file", "content[].")}
    return dict(part)


_CUT = {"max_output_tokens": "length"}
_ITEM = "output[]."
_CONTENT = f"{_ITEM}content[]."
_CALLS = frozenset({"function_call", "custom_tool_call"})  # types of the items that call a tool


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a response that is completed or incomplete.

    Raises the error that a failed response holds, or UnexpectedResponseError, with a quote of
    the body, for anything else.
    """
    data = read_object(body)
    status = data.get("status")
    try:
        if status == "failed":
            raise _failure(data, request)
        if data.get("error"):
            raise _reported(data, request, body)
        if status not in ("completed", "incomplete") or not isinstance(data.get("output"), list):
            found = f"status {status!r}" if isinstance(status, str) else "no status"
            raise unexpected(f"the answer is not a finished response ({found})", body)
        return _output(data, request)
    except FieldError as error:
        raise not_read("the answer is not a response", error, body) from None


def _failure(response: Mapping[str, object], request: ChatRequest) -> CallError:
    """The error of a response that failed; its `partial` holds the usage."""
    error = stream_failure({"error": response.get("error") or {"message": "the response failed"}})
    outputs = (CompletionOutput(0, ""),)
    error.partial = answer_of(response, request, outputs, RESPONSES_USAGE, finished=False)
    return error


def _reported(data: Mapping[str, object], request: ChatRequest, body: bytes) -> CallError:
    """The error that a body reports next to an answer; a readable answer is its `partial`."""
    error = reported_failure(data, body)
    with suppress(FieldError):
        error.partial = replace(_output(data, request), finished=False)
    return error


def _output(data: Mapping[str, object], request: ChatRequest) -> LLMOutput:
    items = objects(data, "output")
    parts = [part for item in items if _is_answer(item) for part in objects(item, "content", _ITEM)]
    answer = "".join([_part_text(part) for part in parts])
    reasoning = "\n\n".join([t for item in items if (t := _reasoning(item))]) or None
    if reasoning is None:
        reasoning, answer = split_think(answer, request.reasoning)
    tokens = tuple([p for part in parts for p in logprobs(part, "logprobs", _CONTENT)]) or None
    calls = tuple([_tool_call(item) for item in items if item["type"] in _CALLS])
    refused = any(part.get("type") == "refusal" for part in parts)
    reason = _finish_reason(data, refused=refused, called=bool(calls))
    completion = CompletionOutput(
        0, answer, None, cumulative(tokens), tokens, reason, None, reasoning, calls
    )
    return answer_of(data, request, (completion,), RESPONSES_USAGE)


def _is_answer(item: Mapping[str, object]) -> bool:
    """Whether an item is a message with the final answer, not a commentary on the work."""
    if required_text(item, "type", _ITEM) != "message":
        return False
    return text(item, "phase", _ITEM) in {None, "final_answer"}


def _finish_reason(response: Mapping[str, object], *, refused: bool, called: bool) -> str:
    """Why the answer ended, in the terms of chat completions; "refusal" for a refusal."""
    if response.get("status") == "incomplete":
        details = mapping(response, "incomplete_details") or {}
        reason = text(details, "reason", "incomplete_details.") or "incomplete"
        return _CUT.get(reason, reason)
    if refused:
        return "refusal"
    return "tool_calls" if called else "stop"


def _reasoning(item: Mapping[str, object]) -> str:
    """The reasoning in an item: the full text if the server gives it, else the summary."""
    if item["type"] == "reasoning":
        return _joined(item, "content") or _joined(item, "summary", "\n\n")
    if item["type"] == "message" and not _is_answer(item):
        return _joined(item, "content")
    return ""


def _joined(item: Mapping[str, object], key: str, between: str = "") -> str:
    return between.join([text(p, "text", _CONTENT) or "" for p in objects(item, key, _ITEM)])


def _part_text(part: Mapping[str, object]) -> str:
    return text(part, "text", _CONTENT) or text(part, "refusal", _CONTENT) or ""


def _tool_call(item: Mapping[str, object]) -> ToolCall:
    key = "arguments" if item["type"] == "function_call" else "input"
    return ToolCall(
        text(item, "call_id", _ITEM) or "",
        required_text(item, "name", _ITEM),
        json_text(item, key, _ITEM),
    )


_DONE = b"[DONE]"  # gateways end every stream with it; it has no meaning in this format


class ResponsesDecoder(JSONStreamDecoder):
    """Turns the events of one streamed response into deltas; see ``base.StreamDecoder``.

    The answer is complete when ``response.completed`` or ``response.incomplete`` has come.
    """

    __slots__ = ("_calls_without_arguments", "_commentary", "_item_ids", "_parts")

    _EXPECTED = "an event of a response"
    _frames: SSEDecoder

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request, SSEDecoder())
        self._parts = AnswerParts(0, request.reasoning)
        # Each of the two holds the index of items.
        self._commentary: set[int] = set()  # messages that are not the answer
        self._calls_without_arguments: set[int] = set()
        self._item_ids: list[str] = []  # of items whose events have no output_index

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
        return self._output((self._parts.output(),), finished=self._done)

    def _not_finished(self, partial: LLMOutput) -> CallError:
        if not self._id and self._frames.stray is not None:
            error = unexpected("the answer is not an event stream", self._frames.stray)
            return self._with_partial(error)
        return incomplete(partial)

    def _read_other(self, frame: bytes) -> list[Delta]:
        return [] if frame.strip() == _DONE else super()._read_other(frame)

    def _read_object(self, value: Mapping[str, object], deltas: list[Delta]) -> None:
        kind = required_text(value, "type").removeprefix("response.")
        reader = self._READERS.get(kind)
        if reader is not None:
            delta = reader(self, value)
            if delta is not None:
                deltas.append(delta)
        if kind in {"completed", "incomplete"} and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    # ---- one reader per type of event

    def _begun(self, event: Mapping[str, object]) -> None:
        response = required_mapping(event, "response")
        self._id = label(response, "id", self._warnings)
        self._model = label(response, "model", self._warnings)

    def _text(self, event: Mapping[str, object]) -> Delta | None:
        if self._commentary and self._index(event) in self._commentary:
            return self._reasoning(event)
        tokens = logprobs(event, "logprobs", "")
        return self._parts.add(required_text(event, "delta"), logprobs=tokens)

    def _refusal(self, event: Mapping[str, object]) -> Delta | None:
        self._parts.refused = True
        return self._parts.add(required_text(event, "delta"))

    def _reasoning(self, event: Mapping[str, object]) -> Delta | None:
        return self._parts.add("", required_text(event, "delta"))

    def _summary_part(self, event: Mapping[str, object]) -> Delta | None:
        return self._parts.add("", "\n\n") if count(event, "summary_index") else None

    def _item(self, event: Mapping[str, object]) -> Delta | None:
        item = required_mapping(event, "item")
        kind = required_text(item, "type", "item.")
        if kind == "message" and not _is_answer(item):
            self._commentary.add(self._index(event))
        if kind not in _CALLS:
            return None
        index = self._index(event)
        self._calls_without_arguments.add(index)
        function = {"name": required_text(item, "name", "item.")}
        return self._call(index, function, text(item, "call_id", "item."))

    def _arguments(self, event: Mapping[str, object]) -> Delta | None:
        index = self._index(event)
        self._calls_without_arguments.discard(index)
        return self._call(index, {"arguments": required_text(event, "delta")})

    def _item_done(self, event: Mapping[str, object]) -> Delta | None:
        """The arguments of a call that were not streamed; some servers send them at the end."""
        item = required_mapping(event, "item")
        if item.get("type") not in _CALLS:
            return None
        index = self._index(event)
        if index not in self._calls_without_arguments:
            return None
        self._calls_without_arguments.discard(index)
        arguments = json_text(item, "arguments", "item.") or json_text(item, "input", "item.")
        return self._call(index, {"arguments": arguments})

    def _index(self, event: Mapping[str, object]) -> int:
        """The place of the item of an event: the ``output_index``, or the order of the item ids.

        llama.cpp sends no ``output_index``, only the ids.
        """
        if (index := count(event, "output_index")) is not None:
            return index
        item_id = text(event, "item_id") or text(mapping(event, "item") or {}, "id", "item.")
        if item_id is None:
            raise FieldError("output_index is missing")
        if item_id not in self._item_ids:
            self._item_ids.append(item_id)
        return self._item_ids.index(item_id)

    def _call(
        self, index: int, function: Mapping[str, str], call_id: str | None = None
    ) -> Delta | None:
        return self._parts.add("", "", [{"id": call_id, "index": index, "function": function}])

    def _ended(self, event: Mapping[str, object]) -> Delta | None:
        response = required_mapping(event, "response")
        if required_text(event, "type").endswith("incomplete"):
            # The answer was cut, whatever the status of the response is.
            response = {**response, "status": "incomplete"}
        self._begun(event)
        self._usage = read_usage(response.get("usage"), RESPONSES_USAGE, self._warnings)
        reason = _finish_reason(response, refused=self._parts.refused, called=self._parts.called)
        self._done = True
        return self._parts.add("", finish_reason=reason)

    def _failed(self, event: Mapping[str, object]) -> None:
        error = _failure(required_mapping(event, "response"), self._request)
        self._usage = error.usage
        raise self._with_partial(error)

    _READERS: ClassVar[
        dict[str, Callable[[ResponsesDecoder, Mapping[str, object]], Delta | None]]
    ] = {
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


# See CreateResponse in openai-openapi; it has no n, seed, stop, penalties or logit_bias.
_SAMPLING = {
    "max_tokens": "max_output_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "logprobs": "top_logprobs",
}
_MERGED = frozenset({"reasoning", "text"})


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The responses format; the server stores nothing unless ``extra_body`` asks for it.

    ``advice`` says what to do about a sampling parameter that the format has no field for. It is
    part of the error message.
    """

    path: str = "/responses"
    stream_type: str = "text/event-stream"
    advice: str = "leave it out"

    def encode(self, request: ChatRequest) -> dict[str, object]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter or a message that this API has no
        field for.
        """
        body: dict[str, object] = {
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
        return with_extra(body, request.extra_body, _MERGED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a body that was not streamed; raises as `openai_responses.decode`."""
        return decode(body, request)

    def decoder(self, request: ChatRequest) -> ResponsesDecoder:
        """A new decoder for the streamed answer to `request`."""
        return ResponsesDecoder(request)

    def _sampling(self, request: ChatRequest) -> dict[str, object]:
        fields = sampling_fields(
            request.sampling, _SAMPLING, "OpenAI's responses API", advice=self.advice
        )
        if "top_logprobs" in fields:
            fields["include"] = ["message.output_text.logprobs"]
        return fields


def _format(wanted: ResponseFormat) -> dict[str, object]:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "name": wanted.name,
        "schema": wanted.schema,
        "strict": wanted.strict,
    }


def _tool(tool: Mapping[str, object]) -> dict[str, object]:
    """A tool in chat format, flattened; a built-in tool of the server is kept as it is."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)
    # If strict is left out, it means true in this API and false in chat completions.
    return {"type": "function", "strict": False, **function}


def _tool_choice(choice: str | Mapping[str, object]) -> str | Mapping[str, object]:
    function = None if isinstance(choice, str) else choice.get("function")
    if not isinstance(function, Mapping):
        return choice
    return {"type": "function", "name": function.get("name")}


def _effort(reasoning: bool | str) -> str:
    """The effort to send. OpenAI has no on/off switch; "medium" is its default, "none" is off."""
    if isinstance(reasoning, str):
        return reasoning
    return "medium" if reasoning else "none"
