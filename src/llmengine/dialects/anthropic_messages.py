"""Anthropic's Messages API, as Anthropic, llama.cpp, vLLM, SGLang and Ollama serve it.

The file has the reader of a whole answer first, then the decoder of a streamed answer, and last the
dialect, which builds the request bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic_core import to_json

from llmengine.dialects.anthropic_blocks import system_and_messages
from llmengine.dialects.base import JSONStreamDecoder
from llmengine.dialects.common import (
    answer_of,
    incomplete,
    not_read,
    read_object,
    sampling_fields,
    split_think,
    unexpected,
    unfinished,
    with_extra,
)
from llmengine.dialects.errors import failed_reason, reported_failure
from llmengine.dialects.fields import (
    MESSAGES_USAGE,
    FieldError,
    count,
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
from llmengine.types.sampling import is_neutral

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest, ResponseFormat


_CONTENT = "content[]."
# Other reasons are kept as they are: "refusal" is the library's own word, "pause_turn" has none.
_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a message.

    Raises the error that the server reports in the body, or UnexpectedResponseError for anything
    that is not a complete message. That error quotes the body, and its `partial` holds the part
    that arrived.
    """
    data = read_object(body)
    try:
        if not isinstance(data.get("content"), list):
            raise FieldError("content is missing")
        output = answer_of(data, request, (_output(data, request),), MESSAGES_USAGE)
    except FieldError as error:
        if data.get("error"):
            raise reported_failure(data, body) from None
        raise not_read("the answer is not a message", error, body) from None
    reason = output.outputs[0].finish_reason
    failed = reported_failure(data, body) if data.get("error") else failed_reason(reason)
    if failed is not None:
        failed.partial = replace(output, finished=False)
        raise failed
    if reason is None:
        raise unfinished(output, body)
    return output


def _output(data: Mapping[str, object], request: ChatRequest) -> CompletionOutput:
    blocks = objects(data, "content")
    answer = "".join([required_text(b, "text", _CONTENT) for b in _of_type(blocks, "text")])
    thoughts = [required_text(b, "thinking", _CONTENT) for b in _of_type(blocks, "thinking")]
    reasoning: str | None = "\n\n".join(filter(None, thoughts)) or None
    if reasoning is None:
        reasoning, answer = split_think(answer, request.reasoning)
    calls = tuple([_tool_call(block) for block in _of_type(blocks, "tool_use")])
    return CompletionOutput(
        0,
        answer,
        finish_reason=_finish_reason(data, called=bool(calls)),
        stop_reason=text(data, "stop_sequence"),
        reasoning=reasoning,
        tool_calls=calls,
    )


def _of_type(blocks: list[dict[str, object]], kind: str) -> list[dict[str, object]]:
    """The blocks of one type; others, such as those of Anthropic's own tools, hold no answer."""
    return [b for b in blocks if required_text(b, "type", _CONTENT) == kind]


def _tool_call(block: Mapping[str, object]) -> ToolCall:
    arguments = to_json(required_mapping(block, "input", _CONTENT)).decode()
    name = required_text(block, "name", _CONTENT)
    return ToolCall(text(block, "id", _CONTENT) or "", name, arguments)


def _finish_reason(data: Mapping[str, object], *, called: bool) -> str | None:
    """Why the answer ended, in the terms of chat completions; None if it has not ended."""
    reason = text(data, "stop_reason")
    if reason is None:
        return None
    reason = _FINISH_REASONS.get(reason, reason)
    return "tool_calls" if called and reason == "stop" else reason


_DONE = b"[DONE]"  # vLLM ends its streams with it; it has no meaning in this format


class MessagesDecoder(JSONStreamDecoder):
    """Turns the events of one streamed message into deltas; see ``base.StreamDecoder``.

    The answer is complete when a stop_reason and then ``message_stop`` have come. Events and deltas
    of unknown types are ignored, as Anthropic's versioning policy requires.
    """

    __slots__ = ("_calls", "_counts", "_inputs", "_parts")

    _EXPECTED = "an event of a message"
    _frames: SSEDecoder

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request, SSEDecoder())
        self._parts = AnswerParts(0, request.reasoning)
        self._counts: dict[str, object] = {}
        self._calls: list[int] = []  # the index of the block of each call
        # By the index of a tool_use block: its input, until a delta of the input arrives.
        self._inputs: dict[int, dict[str, object]] = {}

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
        finished = self._done and self._parts.finish_reason is not None
        return self._output((self._parts.output(),), finished=finished)

    def _not_finished(self, partial: LLMOutput) -> CallError:
        if not self._id and self._frames.stray is not None:
            error = unexpected("the answer is not an event stream", self._frames.stray)
            return self._with_partial(error)
        return incomplete(partial)

    def _read_other(self, frame: bytes) -> list[Delta]:
        return [] if frame.strip() == _DONE else super()._read_other(frame)

    def _read_object(self, value: Mapping[str, object], deltas: list[Delta]) -> None:
        kind = required_text(value, "type")
        reader = self._READERS.get(kind)
        delta = None if reader is None else reader(self, value)
        if delta is not None:
            deltas.append(delta)
        if kind == "message_stop" and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    # ---- one reader per type of event

    def _begun(self, event: Mapping[str, object]) -> None:
        message = required_mapping(event, "message")
        self._id = label(message, "id", self._warnings)
        self._model = label(message, "model", self._warnings)
        self._count(message)

    def _block_begun(self, event: Mapping[str, object]) -> Delta | None:
        block, index = required_mapping(event, "content_block"), _index(event)
        kind = required_text(block, "type", "content_block.")
        if kind == "thinking":
            # Another block of reasoning is a new paragraph.
            gap = "\n\n" if self._parts.output().reasoning else ""
            return self._parts.add("", gap + (text(block, "thinking", "content_block.") or ""))
        if kind == "tool_use":
            self._calls.append(index)
            self._inputs[index] = mapping(block, "input", "content_block.") or {}
            name = required_text(block, "name", "content_block.")
            return self._call(index, {"name": name}, text(block, "id", "content_block."))
        if kind == "text":
            return self._parts.add(text(block, "text", "content_block.") or "")
        return None

    def _block_delta(self, event: Mapping[str, object]) -> Delta | None:
        delta, index = required_mapping(event, "delta"), _index(event)
        kind = required_text(delta, "type", "delta.")
        if kind == "text_delta":
            return self._parts.add(required_text(delta, "text", "delta."))
        if kind == "thinking_delta":
            return self._parts.add("", required_text(delta, "thinking", "delta."))
        if kind == "input_json_delta":
            piece = required_text(delta, "partial_json", "delta.")
            if piece:
                self._inputs.pop(index, None)
            return self._call(index, {"arguments": piece})
        return None

    def _block_ended(self, event: Mapping[str, object]) -> Delta | None:
        """The input of a call that did not come in deltas, such as that of a tool without any."""
        index = _index(event)
        if index not in self._inputs:
            return None
        return self._call(index, {"arguments": to_json(self._inputs.pop(index)).decode()})

    def _changed(self, event: Mapping[str, object]) -> Delta | None:
        delta = required_mapping(event, "delta")
        self._count(event)
        self._parts.stop_reason = text(delta, "stop_sequence", "delta.")
        reason = _finish_reason(delta, called=self._parts.called)
        ended = None if reason is None else self._parts.add("", finish_reason=reason)
        if failed := failed_reason(reason):
            raise self._with_partial(failed)
        return ended

    def _stopped(self, event: Mapping[str, object]) -> Delta | None:  # noqa: ARG002 - it is empty
        self._done = True
        return self._parts.end()

    def _call(
        self, index: int, function: Mapping[str, str], call_id: str | None = None
    ) -> Delta | None:
        """A piece of the last call that began in the block of that index."""
        if index not in self._calls:
            raise FieldError(f"index {index} is not that of a tool_use block")
        place = len(self._calls) - 1 - self._calls[::-1].index(index)
        return self._parts.add("", "", [{"id": call_id, "index": place, "function": function}])

    def _count(self, holder: Mapping[str, object]) -> None:
        """Add the counts of an event to the earlier ones; the last value of each is its total."""
        given = holder.get("usage")
        counts = given if isinstance(given, dict) else {}
        self._counts |= {name: value for name, value in counts.items() if value is not None}
        counted = self._counts if given is None or isinstance(given, dict) else given
        self._usage = read_usage(counted, MESSAGES_USAGE, self._warnings)

    _READERS: ClassVar[
        dict[str, Callable[[MessagesDecoder, Mapping[str, object]], Delta | None]]
    ] = {
        "message_start": _begun,
        "content_block_start": _block_begun,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_ended,
        "message_delta": _changed,
        "message_stop": _stopped,
    }


def _index(event: Mapping[str, object]) -> int:
    index = count(event, "index")
    if index is None:
        raise FieldError("index is missing")
    return index


# ---- requests

# See MessageCreateParams in anthropic-sdk-python; it has no n, seed, penalties or logit_bias.
_SAMPLING = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop": "stop_sequences",
}
_MERGED = frozenset({"output_config", "thinking", "tool_choice"})
_MIN_BUDGET = 1024  # tokens; Anthropic's own server takes no smaller budget for reasoning
_NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The messages format; ``max_tokens`` is sent if a request has no limit, as the API needs one.

    `SamplingParams.stop` becomes ``stop_sequences``, and a schema ``output_config.format``.
    """

    path: str = "/messages"
    stream_type: str = "text/event-stream"
    max_tokens: int = 4096

    def encode(self, request: ChatRequest) -> dict[str, object]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter or a message that this API has no
        field for.
        """
        limit = request.sampling.max_tokens or self.max_tokens
        body: dict[str, object] = {"model": request.model, "max_tokens": limit}
        body |= system_and_messages(request.messages)
        fields = sampling_fields(request.sampling, _SAMPLING, "Anthropic's Messages API")
        if is_neutral("top_k", request.sampling.top_k):
            fields.pop("top_k", None)
        body |= fields
        config = _format(request.response_format) | _effort(request.reasoning)
        if config:
            body["output_config"] = config
        if request.reasoning is not None:
            body["thinking"] = _thinking(request.reasoning, limit)
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice)
        if request.stream:
            body["stream"] = True
        return with_extra(body, request.extra_body, _MERGED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a body that was not streamed; raises as `anthropic_messages.decode`."""
        return decode(body, request)

    def decoder(self, request: ChatRequest) -> MessagesDecoder:
        """A new decoder for the streamed answer to `request`."""
        return MessagesDecoder(request)


def _format(wanted: ResponseFormat | None) -> dict[str, object]:
    """``format`` of ``output_config``; the API has no JSON mode but a schema of any object."""
    if wanted is None:
        return {}
    return {"format": {"type": "json_schema", "schema": wanted.schema or {"type": "object"}}}


def _effort(reasoning: bool | str | None) -> dict[str, object]:
    return {"effort": reasoning} if isinstance(reasoning, str) and reasoning != "none" else {}


def _thinking(reasoning: bool | str, max_tokens: int) -> dict[str, object]:
    """The ``thinking`` field; with an effort, the model decides how many tokens it spends."""
    if reasoning is False or reasoning == "none":
        return {"type": "disabled"}
    if isinstance(reasoning, str):
        return {"type": "adaptive"}
    return {"type": "enabled", "budget_tokens": max(_MIN_BUDGET, max_tokens // 2)}


def _tool(tool: Mapping[str, object]) -> Mapping[str, object]:
    """A tool in chat format as Anthropic's; a tool of the server is kept as it is."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return tool
    schema = function.get("parameters") or function.get("input_schema") or _NO_PARAMETERS
    kept = {name: value for name, value in function.items() if name != "parameters"}
    return {**kept, "input_schema": schema}


def _tool_choice(choice: str | Mapping[str, object]) -> Mapping[str, object]:
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    if choice.get("type") == "allowed_tools":
        raise InvalidRequestError(
            "tool_choice: Anthropic's Messages API has no allowed_tools; give only these tools"
        )
    function = choice.get("function")
    if isinstance(function, Mapping):
        return {"type": "tool", "name": function.get("name")}
    return choice
