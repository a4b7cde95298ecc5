"""OpenAI's chat completions format, as OpenAI, vLLM, llama.cpp, SGLang and others use it.

The file has the parts of a message first, then the reader of a whole answer, the decoder of a
streamed answer, and last the dialect, which builds the request bodies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import from_json

from llmengine.dialects.common import (
    cumulative,
    incomplete,
    logprobs,
    not_read,
    read_object,
    sampling_fields,
    too_few,
    unexpected,
    unfinished,
    with_extra,
)
from llmengine.dialects.errors import failed_reason, reported_failure, stream_failure
from llmengine.dialects.fields import (
    CHAT_USAGE,
    FieldError,
    count,
    json_text,
    label,
    mapping,
    number,
    objects,
    quote,
    read_usage,
    required_mapping,
    required_text,
    text,
    whole_numbers,
    wrong,
)
from llmengine.dialects.framing import SSEDecoder
from llmengine.dialects.streaming import AnswerParts, split_think
from llmengine.types.errors import InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, Logprob, ToolCall

if TYPE_CHECKING:
    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest, Message, ResponseFormat


_TEXT_FIELDS = {"text": "text", "output_text": "text", "refusal": "refusal"}


def content(message: Mapping[str, Any], path: str) -> str:
    """The text of a message or a delta: a string, a list of parts, or a refusal instead of both.

    Raises FieldError for a part that is neither text nor reasoning, because it would be lost.
    """
    said = message.get("content")
    if isinstance(said, str):
        return said
    if said is None:
        return text(message, "refusal", path) or ""
    where = f"{path}content"
    parts = objects(message, "content", path)
    return "".join([_text(part, where) for part in parts if part.get("type") != "thinking"])


def reasoning(message: Mapping[str, Any], path: str) -> str:
    """The reasoning of a message or a delta, if the server separates it from the text.

    vLLM sends it as ``reasoning``; older versions of vLLM and other servers send it as
    ``reasoning_content``. Mistral sends parts of type ``thinking``, which hold text parts.
    """
    for name in ("reasoning", "reasoning_content"):
        if name in message and (said := text(message, name, path)):
            return said
    if not isinstance(message.get("content"), list):
        return ""
    where = f"{path}content."
    parts = objects(message, "content", path)
    return "".join([_thought(part, where) for part in parts if part.get("type") == "thinking"])


def with_twin_reasoning(message: Message) -> Message:
    """The message with its reasoning under both names (``reasoning``, ``reasoning_content``)."""
    said = message.get("reasoning") or message.get("reasoning_content")
    return {**message, "reasoning": said, "reasoning_content": said} if said else message


def _thought(part: Mapping[str, Any], path: str) -> str:
    if isinstance(part.get("thinking"), list):
        return "".join([_text(p, f"{path}thinking") for p in objects(part, "thinking", path)])
    return required_text(part, "thinking", path)


def _text(part: Mapping[str, Any], where: str) -> str:
    kind = required_text(part, "type", f"an item of {where}.")
    if kind not in _TEXT_FIELDS:
        raise FieldError(f"a part of {where} is of type {quote(kind)!r}, which is not read yet")
    return required_text(part, _TEXT_FIELDS[kind], f"{where}.")


_MESSAGE = "choices[].message."
_CALL = f"{_MESSAGE}tool_calls[]."
_LONGEST_ID = 16  # digits of a token's number


def decode(body: bytes, request: ChatRequest, *, null_completes: bool = False) -> LLMOutput:
    """The answer in the body of a chat completion.

    ``null_completes`` means that the server leaves out the finish_reason of a complete answer.
    Raises the error that the server reports in the body, or UnexpectedResponseError for anything
    that is not a complete answer. That error quotes the body, and its `partial` holds what came.
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
        raise unexpected("an answer without choices", body)
    if not null_completes and any(o.finish_reason is None for o in output.outputs):
        raise unfinished(output, body)
    if len(output.outputs) < (request.sampling.n or 1):
        raise too_few(output, request, body)
    return output


def failure_in(data: Mapping[str, Any], body: bytes) -> CallError | None:
    """The error that the server reports next to the choices or in one of them; None if none."""
    if data.get("error"):
        return reported_failure(data, body)
    for choice in objects(data, "choices"):
        if choice.get("error"):
            return reported_failure(choice, body)
        failed = failed_reason(text(choice, "finish_reason", "choices[]."))
        if failed is not None:
            return failed
    return None


def _read(data: Mapping[str, Any], request: ChatRequest) -> LLMOutput:
    warnings: dict[str, str] = {}
    choices = enumerate(objects(data, "choices"))
    return LLMOutput(
        label(data, "id", warnings) or request.request_id,
        request.prompt,
        tuple([_output(choice, place, request) for place, choice in choices]),
        prompt_token_ids=whole_numbers(data, "prompt_token_ids"),
        usage=read_usage(data.get("usage"), CHAT_USAGE, warnings),
        model=label(data, "model", warnings),
        prompt_logprobs=_prompt_logprobs(data),
        warnings=tuple(warnings.values()),
    )


def _output(choice: Mapping[str, Any], place: int, request: ChatRequest) -> CompletionOutput:
    message = required_mapping(choice, "message", "choices[].")
    said, thought = content(message, _MESSAGE), reasoning(message, _MESSAGE) or None
    if thought is None:
        thought, said = split_think(said, request.reasoning)
    calls = tuple([_tool_call(call) for call in objects(message, "tool_calls", _MESSAGE)])
    tokens = choice_logprobs(choice) or None
    index = count(choice, "index", "choices[].")
    return CompletionOutput(
        place if index is None else index,
        said,
        whole_numbers(choice, "token_ids", "choices[]."),
        cumulative(tokens),
        tokens,
        finish_reason(choice, refused=bool(message.get("refusal")), called=bool(calls)),
        stop_reason(choice),
        thought,
        calls,
    )


def finish_reason(choice: Mapping[str, Any], *, refused: bool, called: bool) -> str | None:
    """Why the answer ended; None if it has not ended.

    "stop" becomes "refusal" or "tool_calls" if the answer is one. OpenAI sends "stop" for
    refusals, and OpenAI and vLLM send it for a call of the tool that the request named.
    """
    given = text(choice, "finish_reason", "choices[].") or None  # some gateways send ""
    if given != "stop":
        return given
    return "refusal" if refused else "tool_calls" if called else given


def stop_reason(choice: Mapping[str, Any]) -> int | str | None:
    """The token or the string that stopped the answer; only vLLM sends it."""
    value = choice.get("stop_reason")
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    raise wrong("choices[].stop_reason", "text or a whole number", value)


def choice_logprobs(choice: Mapping[str, Any]) -> tuple[Logprob, ...]:
    """The log-probabilities of a choice's tokens; () if there are none."""
    given = mapping(choice, "logprobs", "choices[].")
    return logprobs(given, "content", "choices[].logprobs.") if given else ()


def _tool_call(call: Mapping[str, Any]) -> ToolCall:
    function = required_mapping(call, "function", _CALL)
    return ToolCall(
        text(call, "id", _CALL) or "",
        required_text(function, "name", f"{_CALL}function."),
        json_text(function, "arguments", f"{_CALL}function."),
    )


def _prompt_logprobs(data: Mapping[str, Any]) -> tuple[dict[int, Logprob] | None, ...] | None:
    """Log-probabilities of the prompt from vLLM: one mapping per token, None for the first."""
    value = data.get("prompt_logprobs")
    if value is None:
        return None
    if not isinstance(value, list):
        raise wrong("prompt_logprobs", "a list", value)
    return tuple([None if place is None else _by_token_id(place) for place in value])


def _by_token_id(place: Any) -> dict[int, Logprob]:
    if not isinstance(place, dict):
        raise wrong("an item of prompt_logprobs", "an object", place)
    return {
        _token_id(token): Logprob(
            text(entry, "decoded_token", "prompt_logprobs[].") or "",
            number(entry, "logprob", "prompt_logprobs[]."),
        )
        for token in place
        for entry in [required_mapping(place, token, "prompt_logprobs[].")]
    }


def _token_id(token: str) -> int:
    if token.isascii() and token.isdecimal() and len(token) <= _LONGEST_ID:
        return int(token)
    raise wrong("a key of prompt_logprobs", "a token id", token)


_DONE = b"[DONE]"
_DELTA = "choices[].delta."


class OpenAIChatDecoder:
    """Turns the server-sent events of one call into deltas; see ``base.StreamDecoder``.

    An answer is complete when each of its choices has a finish_reason. ``[DONE]`` alone is not
    enough, because vLLM sends it after a crash too. The exception is `done_completes`, which
    says that the server leaves the finish_reason out.
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
        event that is not a chunk. Both hold `partial`.
        """
        deltas: list[Delta] = []
        for event in self._events.feed(data):
            if event.strip() == _DONE:
                self._end(deltas)
            elif not self._done:
                self._chunk(self._parsed(event), event, deltas)
        return deltas

    def end(self) -> list[Delta]:
        """The deltas of a last event without its blank line, and the usage if [DONE] is missing.

        An event that is cut off is dropped.
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
        """The whole answer.

        Raises StreamIncompleteError, with `partial`, if the end of the answer has not come, and
        UnexpectedResponseError if fewer answers came than the request asked for.
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
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
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
            parts.stop_reason = stop_reason(choice)
        delta = mapping(choice, "delta", "choices[].") or {}
        if delta.get("refusal"):
            parts.refused = True
        calls = objects(delta, "tool_calls", _DELTA)
        reason = finish_reason(choice, refused=parts.refused, called=parts.called or bool(calls))
        added = parts.add(
            content(delta, _DELTA),
            reasoning(delta, _DELTA),
            calls,
            choice_logprobs(choice),
            reason,
            token_ids=whole_numbers(choice, "token_ids", "choices[]."),
        )
        if (failed := failed_reason(reason)) is not None:
            raise self._holding(failed)
        return added

    def _end(self, deltas: list[Delta]) -> None:
        """Add what ``[DONE]`` completes: text that was held back, and usage from earlier chunks."""
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
        """The error, with all that has arrived as its `partial`."""
        error.partial = replace(self.partial, finished=False)
        return error


def _json(event: bytes) -> Any:
    try:
        return from_json(event)
    except ValueError:
        return None


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
    "sampling parameter 'prompt_logprobs' does nothing on a stream: servers leave them out of it; "
    "use generate or results"
)

_JOINED = frozenset({"chat_template_kwargs", "stream_options"})


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

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for a sampling parameter that the server has no field for.
        """
        messages = list(request.messages)
        if self.twin_reasoning:
            messages = [with_twin_reasoning(message) for message in messages]
        body: dict[str, Any] = {"model": request.model, "messages": messages}
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
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a successful body that was not streamed; raises as `openai_chat.decode`."""
        return decode(body, request, null_completes=self.done_completes)

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OpenAIChatDecoder(request, done_completes=self.done_completes)

    def _sampling(self, request: ChatRequest) -> dict[str, Any]:
        names = {**_STANDARD, "max_tokens": self.max_tokens_field, **self.extras}
        fields = sampling_fields(request.sampling, names, "the OpenAI chat format of this server")
        if request.stream and fields.get("prompt_logprobs") is not None:
            raise InvalidRequestError(_NOT_IN_STREAMS)
        count = fields.pop("logprobs", None)
        if count is not None:
            fields["logprobs"] = True
            if count:
                fields["top_logprobs"] = count
        if "logit_bias" in fields:
            fields["logit_bias"] = {str(k): v for k, v in fields["logit_bias"].items()}
        return fields

    def _tools(self, request: ChatRequest) -> list[Mapping[str, Any]]:
        """The tools, marked as strict if one must be called; a tool's own "strict" is kept."""
        choice = request.tool_choice
        if not self.strict_tools or not (choice == "required" or isinstance(choice, Mapping)):
            return list(request.tools)
        wanted = None if isinstance(choice, str) else choice.get("function", {}).get("name")
        return [_strict(tool, wanted) for tool in request.tools]

    def _reasoning(self, reasoning: bool | str | None) -> dict[str, Any]:
        if reasoning is None:
            return {}
        if isinstance(reasoning, str):
            return {"reasoning_effort": reasoning}
        if self.thinking_kwarg is not None:
            return {"chat_template_kwargs": {self.thinking_kwarg: reasoning}}
        # OpenAI has no on/off switch: "none" turns reasoning off, "medium" is the default.
        return {"reasoning_effort": "medium" if reasoning else "none"}


def _strict(tool: Mapping[str, Any], wanted: str | None) -> Mapping[str, Any]:
    """The tool, marked as strict if it is a function that may be the one that is called."""
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" in function:
        return tool
    if wanted is not None and function.get("name") != wanted:
        return tool
    return {**tool, "function": {**function, "strict": True}}


def _response_format(wanted: ResponseFormat) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    schema = {"name": wanted.name, "schema": wanted.schema, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": schema}
