"""OpenAI's chat completions format, as OpenAI, vLLM, llama.cpp, SGLang and others use it.

The file has the reader of a whole answer first, then the decoder of a streamed answer, and last
the dialect, which builds the request bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from llmengine.dialects.base import JSONStreamDecoder, parsed
from llmengine.dialects.common import (
    answer_of,
    cumulative,
    incomplete,
    logprobs,
    not_read,
    prompt_logprobs,
    read_object,
    reasoning_and_text,
    sampling_fields,
    split_think,
    too_few,
    unexpected,
    unfinished,
    with_extra,
)
from llmengine.dialects.errors import (
    FAILED_REASONS,
    failed_reason,
    reported_failure,
    stream_failure,
)
from llmengine.dialects.fields import (
    CHAT_USAGE,
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
    whole_numbers,
    wrong,
)
from llmengine.dialects.framing import SSEDecoder
from llmengine.dialects.streaming import AnswerParts
from llmengine.types.errors import InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, Logprob, ToolCall

if TYPE_CHECKING:
    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest, Message, ResponseFormat
    from llmengine.types.wire import JSONObjectFormat, JSONSchemaFormat


_MESSAGE = "choices[].message."
_CALL = f"{_MESSAGE}tool_calls[]."
_FUNCTION = f"{_CALL}function."


def decode(body: bytes, request: ChatRequest, *, null_completes: bool = False) -> LLMOutput:
    """The answer in the body of a chat completion.

    ``null_completes`` means that the server leaves out the finish_reason of a complete answer.
    Raises the error that the server reports in the body, or UnexpectedResponseError for anything
    that is not a complete answer. That error quotes the body, and its `partial` holds the part
    that arrived.
    """
    data = read_object(body)
    try:
        output = _read(data, request)
    except FieldError as error:
        if data.get("error"):
            raise reported_failure(data, body) from None
        raise not_read("the answer is not a chat completion", error, body) from None
    failed = failure_in(data, body)
    if failed is not None:
        failed.partial = replace(output, finished=False) if output.outputs else None
        raise failed
    if not output.outputs:
        raise unexpected("the answer has no choices", body)
    if not null_completes and None in [answer.finish_reason for answer in output.outputs]:
        raise unfinished(output, body)
    if len(output.outputs) < (request.sampling.n or 1):
        raise too_few(output, request, body)
    return output


def failure_in(data: Mapping[str, object], body: bytes) -> CallError | None:
    """The error that the server reports next to the choices or in one of them; None if none."""
    if data.get("error"):
        return reported_failure(data, body)
    for choice in objects(data, "choices"):
        if choice.get("error"):
            return reported_failure(choice, body)
        reason = text(choice, "finish_reason", "choices[].")
        if reason in FAILED_REASONS:
            return failed_reason(reason)
    return None


def _read(data: Mapping[str, object], request: ChatRequest) -> LLMOutput:
    choices = enumerate(objects(data, "choices"))
    outputs = tuple([_output(choice, place, request) for place, choice in choices])
    output = answer_of(data, request, outputs, CHAT_USAGE)
    if data.get("prompt_token_ids") is None and data.get("prompt_logprobs") is None:
        return output
    return replace(
        output,
        prompt_token_ids=whole_numbers(data, "prompt_token_ids"),
        prompt_logprobs=prompt_logprobs(data),
    )


def _output(choice: Mapping[str, object], place: int, request: ChatRequest) -> CompletionOutput:
    message = required_mapping(choice, "message", "choices[].")
    parts = reasoning_and_text(message, _MESSAGE)
    reasoning, answer = parts if parts[0] else split_think(parts[1], request.reasoning)
    calls = tuple([_tool_call(call) for call in objects(message, "tool_calls", _MESSAGE)])
    tokens = _choice_logprobs(choice) or None
    index = count(choice, "index", "choices[].")
    return CompletionOutput(
        place if index is None else index,
        answer,
        whole_numbers(choice, "token_ids", "choices[]."),
        cumulative(tokens),
        tokens,
        _finish_reason(choice, refused=bool(message.get("refusal")), called=bool(calls)),
        _stop_reason(choice),
        reasoning,
        calls,
    )


def _finish_reason(choice: Mapping[str, object], *, refused: bool, called: bool) -> str | None:
    """Why the answer ended; None if it has not ended.

    "stop" becomes "refusal" or "tool_calls" if the answer is one. OpenAI sends "stop" for
    refusals, and OpenAI and vLLM send it for a call of the tool that the request named.
    """
    reason = text(choice, "finish_reason", "choices[].") or None  # some gateways send ""
    if reason != "stop":
        return reason
    return "refusal" if refused else "tool_calls" if called else reason


def _stop_reason(choice: Mapping[str, object]) -> int | str | None:
    """The token or the string that stopped the answer; only vLLM sends it."""
    value = choice.get("stop_reason")
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise wrong("choices[].stop_reason", "text or a whole number", value)


def _choice_logprobs(choice: Mapping[str, object]) -> tuple[Logprob, ...]:
    """The log-probabilities of a choice's tokens; () if there are none."""
    value = mapping(choice, "logprobs", "choices[].")
    return logprobs(value, "content", "choices[].logprobs.") if value else ()


def _tool_call(call: Mapping[str, object]) -> ToolCall:
    function = required_mapping(call, "function", _CALL)
    return ToolCall(
        text(call, "id", _CALL) or "",
        required_text(function, "name", _FUNCTION),
        json_text(function, "arguments", _FUNCTION),
    )


_DONE = b"[DONE]"
_DELTA = "choices[].delta."


class OpenAIChatDecoder(JSONStreamDecoder):
    """Turns the server-sent events of one call into deltas; see ``base.StreamDecoder``.

    An answer is complete when each of its choices has a finish_reason. ``[DONE]`` alone is not
    enough, because vLLM sends it after a crash too. The exception is `done_completes`, which
    says that the server leaves the finish_reason out.
    """

    __slots__ = ("_choices", "_done_completes", "_prompt_token_ids", "_usage_reported")

    _EXPECTED = "a chat completion chunk"
    _frames: SSEDecoder

    def __init__(self, request: ChatRequest, *, done_completes: bool = False) -> None:
        super().__init__(request, SSEDecoder())
        self._choices: dict[int, AnswerParts] = {}
        self._done_completes = done_completes
        self._prompt_token_ids: tuple[int, ...] | None = None
        self._usage_reported = False

    def end(self) -> list[Delta]:
        """The deltas of a last event without its blank line, and the usage if [DONE] is missing.

        An event that is cut off is dropped.
        """
        deltas = super().end()
        if self._is_complete:
            self._report_usage(deltas)
        return deltas

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
        parts = [self._choices[i] for i in sorted(self._choices)] or [self._new_parts(0)]
        return self._output(
            tuple([part.output() for part in parts]),
            finished=self._is_complete,
            prompt_token_ids=self._prompt_token_ids,
        )

    @property
    def _is_complete(self) -> bool:
        # Another choice may have been cut off before its first chunk, even if [DONE] has come.
        if not self._choices or len(self._choices) < (self._request.sampling.n or 1):
            return False
        return self._have_ended

    @property
    def _have_ended(self) -> bool:
        choices = self._choices.values()
        if all(c.finish_reason is not None for c in choices):
            return True
        return self._done and self._done_completes and all(c.has_content for c in choices)

    def _not_finished(self, partial: LLMOutput) -> CallError:
        if not self._choices and self._frames.stray is not None:
            error = unexpected("the answer is not an event stream", self._frames.stray)
            return self._with_partial(error)
        if self._done and self._choices and self._have_ended:
            return too_few(partial, self._request, _DONE)
        return incomplete(partial)

    def _is_cut(self, frame: bytes) -> bool:
        return frame.strip() != _DONE and not isinstance(parsed(frame), dict)

    def _read_other(self, frame: bytes) -> list[Delta]:
        if frame.strip() != _DONE:
            return super()._read_other(frame)
        # It completes text that was held back. Usage from an earlier chunk is reported last.
        self._done = True
        deltas = [d for c in self._choices.values() if (d := c.end()) is not None]
        self._report_usage(deltas)
        return deltas

    def _read_object(self, value: Mapping[str, object], deltas: list[Delta]) -> None:
        self._id = self._id or label(value, "id", self._warnings)
        self._model = self._model or label(value, "model", self._warnings)
        if self._prompt_token_ids is None and "prompt_token_ids" in value:
            ids = self._prompt_token_ids = whole_numbers(value, "prompt_token_ids")
            if ids is not None:
                deltas.append(Delta(prompt_token_ids=ids))
        usage = value.get("usage")
        if usage:
            self._usage = read_usage(usage, CHAT_USAGE, self._warnings)
        choices = objects(value, "choices")
        if not choices and usage is None and "choices" not in value:
            raise FieldError("choices is missing")
        for choice in choices:
            delta = self._read_choice(choice)
            if delta is not None:
                deltas.append(delta)
        if usage and not choices:
            self._report_usage(deltas)

    def _read_choice(self, choice: Mapping[str, object]) -> Delta | None:
        if choice.get("error"):
            raise self._with_partial(stream_failure(choice))
        index = count(choice, "index", "choices[].") or 0
        parts = self._choices.get(index)
        if parts is None:
            parts = self._choices[index] = self._new_parts(index)
        if choice.get("stop_reason") is not None:
            parts.stop_reason = _stop_reason(choice)
        message = mapping(choice, "delta", "choices[].") or {}
        has_ended = choice.get("finish_reason") is not None
        has_tokens = choice.get("logprobs") is not None or choice.get("token_ids") is not None
        if len(message) == 1 and not (has_ended or has_tokens):
            content = message.get("content")
            if type(content) is str:  # as in nearly all events of a stream
                return parts.add_text(content)
        if message.get("refusal"):
            parts.refused = True
        calls = objects(message, "tool_calls", _DELTA) if "tool_calls" in message else []
        tokens = _choice_logprobs(choice) if has_tokens else ()
        ids = whole_numbers(choice, "token_ids", "choices[].") if has_tokens else None
        reasoning, answer = reasoning_and_text(message, _DELTA)
        if not has_ended:
            return parts.add(answer, reasoning, calls, tokens, token_ids=ids)
        reason = _finish_reason(choice, refused=parts.refused, called=parts.called or bool(calls))
        delta = parts.add(answer, reasoning, calls, tokens, reason, token_ids=ids)
        if reason in FAILED_REASONS and (failed := failed_reason(reason)):
            raise self._with_partial(failed)
        return delta

    def _new_parts(self, index: int) -> AnswerParts:
        return AnswerParts(index, self._request.reasoning)

    def _report_usage(self, deltas: list[Delta]) -> None:
        if self._usage is not None and not self._usage_reported:
            self._usage_reported = True
            deltas.append(Delta(usage=self._usage))


# These names are the same in SamplingParams and in OpenAI's API; see
# CreateChatCompletionRequest in openai-openapi.
_STANDARD = {
    name: name
    for name in (
        "n",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "stop",
        "logit_bias",
        "logprobs",
    )
}

VLLM_EXTRAS: Mapping[str, str] = {
    name: name
    for name in (
        "top_k",
        "min_p",
        "repetition_penalty",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "bad_words",
        "structured_outputs",
        "prompt_logprobs",
        "return_token_ids",
    )
}
"""Sampling fields that vLLM's chat route accepts in addition to OpenAI's."""

LLAMACPP_EXTRAS: Mapping[str, str] = {
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "ignore_eos": "ignore_eos",
}
"""Sampling fields that llama.cpp's chat route accepts in addition to OpenAI's: {ours: its}."""

# vLLM 0.32 accepts the field on a stream and answers 200, but never sends the log-probabilities.
_NOT_IN_STREAMS = (
    "sampling parameter 'prompt_logprobs' has no effect on a stream, because servers do not send "
    "the log-probabilities of the prompt in a stream; use generate or results"
)

_MERGED = frozenset({"chat_template_kwargs", "stream_options"})


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """The chat completions format, with switches for the differences between servers.

    - ``max_tokens_field``: the name of the token limit.
    - ``extras``: sampling fields beyond OpenAI's that the server accepts, as {our name: its
      name}; others are refused.
    - ``stream_usage``: whether to ask for the usage of a stream.
    - ``thinking_kwarg``: the chat template variable that turns reasoning on and off (vLLM,
      SGLang: often "enable_thinking"). Without it, a bool is sent as an effort.
    - ``done_completes``: accept an answer without a finish_reason as complete (Ollama sends null
      there); in a stream, once ``[DONE]`` has come after some content. If it is off, such an
      answer is incomplete, whether streamed or not.
    - ``strict_tools``: mark tools that must be called as "strict". Without that mark vLLM does
      not constrain their arguments.
    - ``twin_reasoning``: send the reasoning of earlier answers under both its names, for old and
      new versions of vLLM.
    """

    path: str = "/chat/completions"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extras: Mapping[str, str] = field(default_factory=dict)
    stream_usage: bool = True
    thinking_kwarg: str | None = None
    done_completes: bool = False
    strict_tools: bool = False
    twin_reasoning: bool = False
    stream_type: str = "text/event-stream"
    _names: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {**_STANDARD, "max_tokens": self.max_tokens_field, **self.extras}
        object.__setattr__(self, "_names", names)

    def encode(self, request: ChatRequest) -> dict[str, object]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter that the server has no field for.
        """
        messages = list(request.messages)
        if self.twin_reasoning:
            messages = [_with_both_names(message) for message in messages]
        body: dict[str, object] = {"model": request.model, "messages": messages}
        body |= self._sampling(request)
        if request.response_format is not None:
            body["response_format"] = _response_format(request.response_format)
        if request.tools:
            body["tools"] = self._tools(request)
        if request.tool_choice is not None:
            body["tool_choice"] = request.tool_choice
        body |= self._reasoning(request.reasoning)
        if request.stream:
            body["stream"] = True
            if self.stream_usage:
                body["stream_options"] = {"include_usage": True}
        return with_extra(body, request.extra_body, _MERGED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a successful body that was not streamed; raises as `openai_chat.decode`."""
        return decode(body, request, null_completes=self.done_completes)

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OpenAIChatDecoder(request, done_completes=self.done_completes)

    def _sampling(self, request: ChatRequest) -> dict[str, object]:
        fields = sampling_fields(
            request.sampling, self._names, "the OpenAI chat format of this server"
        )
        if request.stream and fields.get("prompt_logprobs") is not None:
            raise InvalidRequestError(_NOT_IN_STREAMS)
        count = fields.pop("logprobs", None)
        if count is not None:
            fields["logprobs"] = True
            if count:
                fields["top_logprobs"] = count
        if request.sampling.logit_bias is not None:
            fields["logit_bias"] = {str(k): v for k, v in request.sampling.logit_bias.items()}
        return fields

    def _tools(self, request: ChatRequest) -> list[Mapping[str, object]]:
        """The tools, marked as strict if one must be called; a tool's own "strict" is kept."""
        choice = request.tool_choice
        must_call = choice == "required" or isinstance(choice, Mapping)
        if not (self.strict_tools and must_call):
            return list(request.tools)
        function = choice.get("function") if isinstance(choice, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        return [_strict(tool, name) for tool in request.tools]

    def _reasoning(self, reasoning: bool | str | None) -> dict[str, object]:
        if reasoning is None:
            return {}
        if isinstance(reasoning, str):
            return {"reasoning_effort": reasoning}
        if self.thinking_kwarg is not None:
            return {"chat_template_kwargs": {self.thinking_kwarg: reasoning}}
        # OpenAI has no on/off switch: "none" turns reasoning off, "medium" is the default.
        return {"reasoning_effort": "medium" if reasoning else "none"}


def _with_both_names(message: Message) -> Message:
    """The message with its reasoning under both names (``reasoning``, ``reasoning_content``)."""
    value = message.get("reasoning") or message.get("reasoning_content")
    return {**message, "reasoning": value, "reasoning_content": value} if value else message


def _strict(tool: Mapping[str, object], name: object) -> Mapping[str, object]:
    """The tool, marked as strict if it is a function with that name; None stands for any name."""
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" in function:
        return tool
    if name is not None and function.get("name") != name:
        return tool
    return {**tool, "function": {**function, "strict": True}}


def _response_format(wanted: ResponseFormat) -> JSONObjectFormat | JSONSchemaFormat:
    if wanted.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name, "schema": wanted.schema, "strict": wanted.strict},
    }
