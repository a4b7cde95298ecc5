"""Ollama's chat formats: the native ``/api/chat`` and the OpenAI-compatible ``/v1`` route.

Only the native route can set ``num_ctx``, ``keep_alive`` and a schema; see docs/api.md of Ollama.
Both routes accept some fields and ignore them without an error. Such fields are refused before
anything is sent.

Ollama cuts a prompt to its context without an error. If the request says ``truncate: false``, a
current server refuses a prompt that does not fit (``ChatRequest`` of Ollama's api/types.go). An
older server and the route ``/v1`` ignore that field, so the token count in the answer is used to
detect a cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmengine.dialects import openai_chat
from llmengine.dialects.base import JSONStreamDecoder
from llmengine.dialects.common import (
    answer_of,
    cumulative,
    logprobs,
    not_read,
    read_object,
    sampling_fields,
    split_think,
    unexpected,
    with_extra,
)
from llmengine.dialects.errors import failed_reason, reported_failure
from llmengine.dialects.fields import (
    OLLAMA_USAGE,
    FieldError,
    json_text,
    label,
    objects,
    read_usage,
    required_mapping,
    required_text,
    text,
)
from llmengine.dialects.framing import NDJSONDecoder
from llmengine.dialects.ollama_messages import to_ollama
from llmengine.dialects.openai_chat import OpenAIChat, OpenAIChatDecoder
from llmengine.dialects.streaming import AnswerParts
from llmengine.types.errors import ContextLengthError, InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, ToolCall
from llmengine.types.sampling import is_neutral

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.types.request import ChatRequest


_LEAVE_OUT = "leave it out"
_ON_BOTH_ROUTES = {
    "n": "send the prompt several times",
    "logit_bias": _LEAVE_OUT,
    "tool_choice": "leave it out, or give only the tool that must be called",
    "parallel_tool_calls": _LEAVE_OUT,
}
_NATIVE_ONLY = "use Ollama's /api/chat, which has it: give the engine an endpoint without /v1"
_AN_OPTION = "put it into options"

# Fields that a route ignores, with what to do instead.
_IGNORED_BY_V1: Mapping[str, str] = {
    **_ON_BOTH_ROUTES,
    "max_completion_tokens": "use max_tokens",
    **dict.fromkeys(("options", "keep_alive", "think", "format", "num_ctx"), _NATIVE_ONLY),
}
_IGNORED_BY_NATIVE: Mapping[str, str] = {
    **_ON_BOTH_ROUTES,
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "use num_predict in options"),
    **dict.fromkeys(("num_ctx", "num_predict", "temperature", "top_p", "seed"), _AN_OPTION),
    "response_format": "use format",
    "reasoning_effort": "use think",
}
# Values that ask for Ollama's default behaviour.
_DEFAULTS = [("tool_choice", "auto"), ("parallel_tool_calls", True)]


def _refuse_ignored(request: ChatRequest, ignored: Mapping[str, str], route: str) -> None:
    """Raise InvalidRequestError for a field of the request that the route would ignore.

    A value that asks for Ollama's default behaviour is allowed.
    """
    sampling = request.sampling
    fields = [("n", sampling.n), ("logit_bias", sampling.logit_bias), *request.extra_body.items()]
    for name, value in fields:
        is_default = value is None or (name, value) in _DEFAULTS or is_neutral(name, value)
        if name in ignored and not is_default:
            raise InvalidRequestError(_ignored_message(name, value, route, ignored[name]))


def _sends_tools(request: ChatRequest, route: str) -> bool:
    """Whether to send the tools; for ``tool_choice: none`` they are not sent.

    Raises InvalidRequestError if a tool must be called, because the route has no field for that.
    """
    choice = request.tool_choice
    if choice not in (None, "auto", "none"):
        advice = _ON_BOTH_ROUTES["tool_choice"]
        raise InvalidRequestError(_ignored_message("tool_choice", choice, route, advice))
    return bool(request.tools) and choice != "none"


def _ignored_message(name: str, value: object, route: str, advice: str) -> str:
    return f"{name} is {value!r}, but {route} ignores {name}; {advice}"


# Values of done_reason for a request without messages, which only loads or unloads the model.
_NO_ANSWER = frozenset({"load", "unload"})
_MESSAGE = "message."
_CALL = f"{_MESSAGE}tool_calls[]."


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a chat that was not streamed.

    Raises the error that the server reports in the body, ContextLengthError if the server read
    less than the whole prompt, or UnexpectedResponseError, with a quote of the body, for anything
    else that is not an answer.
    """
    data = read_object(body)
    if data.get("error"):
        raise reported_failure(data, body)
    if data.get("done") is not True:
        raise unexpected("the answer is not a finished chat", body)
    if _only_loaded(data):
        raise unexpected("the server only loaded or unloaded the model", body)
    try:
        output = answer_of(data, request, (_output(data, request),), OLLAMA_USAGE)
    except FieldError as error:
        raise not_read("the answer is not a chat", error, body) from None
    failed = failed_reason(output.outputs[0].finish_reason)
    if failed is not None:
        failed.partial = replace(output, finished=False)
        raise failed
    _refuse_a_cut_prompt(output, request)
    return output


def _output(data: Mapping[str, object], request: ChatRequest) -> CompletionOutput:
    message = required_mapping(data, "message")
    answer, thinking = _content(message), _thinking(message) or None
    if thinking is None:
        thinking, answer = split_think(answer, request.reasoning)
    calls = objects(message, "tool_calls", _MESSAGE)
    tokens = logprobs(data, "logprobs", "") or None
    return CompletionOutput(
        0,
        answer,
        None,
        cumulative(tokens),
        tokens,
        _finish_reason(data, has_calls=bool(calls)),
        None,
        thinking,
        tuple([ToolCall(*_call(call, place)) for place, call in enumerate(calls)]),
    )


def _content(message: Mapping[str, object]) -> str:
    """The text of a message; Ollama leaves the field out if there is none."""
    return text(message, "content", _MESSAGE) or ""


def _thinking(message: Mapping[str, object]) -> str:
    """The reasoning of a message; Ollama leaves the field out if there is none."""
    return text(message, "thinking", _MESSAGE) or ""


def _call(call: Mapping[str, object], place: int) -> tuple[str, str, str]:
    """The id of a call, its name, and its arguments as JSON text; Ollama sends them as an object.

    Older servers send no id, so one is made, because the result of a tool must name its call.
    """
    function = required_mapping(call, "function", _CALL)
    return (
        text(call, "id", _CALL) or f"call_{place}",
        required_text(function, "name", f"{_CALL}function."),
        json_text(function, "arguments", f"{_CALL}function.") or "{}",
    )


def _finish_reason(data: Mapping[str, object], *, has_calls: bool) -> str:
    """Why a finished answer ended, in OpenAI's terms.

    Ollama has no reason for tool calls, and older servers send no reason at all.
    """
    reason = text(data, "done_reason") or "stop"
    return "tool_calls" if has_calls and reason == "stop" else reason


def _only_loaded(data: Mapping[str, object]) -> bool:
    """Whether the server only loaded or unloaded the model, because there were no messages."""
    reason = data.get("done_reason")
    return isinstance(reason, str) and reason in _NO_ANSWER


# With `shift`, Ollama would drop the start of the conversation once the answer fills the context.
_WHOLE_PROMPT = {"truncate": False, "shift": False}


def _refuse_a_cut_prompt(output: LLMOutput, request: ChatRequest) -> None:
    """Raise ContextLengthError if the server counted fewer tokens than the prompt has words.

    A word between blanks is at least one token, so fewer tokens prove that the prompt was cut.
    More tokens do not prove that all of it was read: for scripts without blanks, such as Chinese,
    the count alone proves nothing.
    """
    tokens = _tokens_read(output, request)
    if tokens is None:
        return
    words = sum([len(text.split()) for text in _texts(request)])
    if words > tokens:
        raise _cut(output, f"it has at least {words} words, but {tokens} tokens were read")


def may_be_cut(output: LLMOutput, request: ChatRequest) -> bool:
    """Whether the prompt is so long that the server may have read only a part of it."""
    tokens = _tokens_read(output, request)
    if tokens is None:
        return False
    return sum(len(text.encode()) for text in _texts(request)) > _context_of(tokens)


def refuse_half_a_context(output: LLMOutput, request: ChatRequest, context: int) -> None:
    """Raise ContextLengthError if the token count is what Ollama leaves of a prompt that is cut.

    A whole prompt of exactly that length is taken for one that was cut.
    """
    tokens = _tokens_read(output, request)
    if tokens is not None and context in {_context_of(tokens), _context_of(tokens) + 1}:
        raise _cut(
            output,
            f"{tokens} tokens were read, which is what Ollama leaves of a prompt that is longer "
            f"than its context of {context} tokens",
        )


def _context_of(tokens: int) -> int:
    """The length of the context for which Ollama cuts a prompt to that many tokens.

    Of a prompt that does not fit, Ollama keeps the first four tokens (``num_keep``) and as much
    of the end as fits into half of the remaining room: ``tokens = 4 + (context - 4) / 2``.
    """
    return 2 * tokens - 4


def _cut(output: LLMOutput, reason: str) -> ContextLengthError:
    error = ContextLengthError(
        f"the server cut the prompt without an error: {reason}; give the model more context "
        "(num_ctx in the options of /api/chat, OLLAMA_CONTEXT_LENGTH of the server) or a shorter "
        "prompt; to accept cut prompts, set extra_body: {truncate: true}"
    )
    error.partial = output
    return error


def _tokens_read(output: LLMOutput, request: ChatRequest) -> int | None:
    """How many tokens of the prompt were read; None if unknown, or if the user accepts a cut."""
    accepted = request.extra_body.get("truncate") is True
    return None if accepted or output.usage is None else output.usage.prompt_tokens


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list | tuple):
            texts = (part.get("text") for part in content if isinstance(part, Mapping))
            yield from (text for text in texts if isinstance(text, str))


class OllamaChatDecoder(JSONStreamDecoder):
    """Turns the lines of one call into deltas; see ``base.StreamDecoder``.

    An answer is complete once a line says ``"done": true``.
    """

    __slots__ = ("_calls", "_parts")

    _FRAME = "a line of the stream"
    _EXPECTED = "part of a chat"

    def __init__(self, request: ChatRequest) -> None:
        super().__init__(request, NDJSONDecoder())
        self._parts = AnswerParts(0, request.reasoning)
        self._calls = 0

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError if the end of the answer has not come, and ContextLengthError
        if the server read less than the whole prompt.
        """
        output = super().finish()
        _refuse_a_cut_prompt(output, self._request)
        return output

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
        return self._output((self._parts.output(),), finished=self._done)

    def _is_cut(self, frame: bytes) -> bool:
        # A last line that is not the beginning of an object is an error.
        return frame.lstrip().startswith(b"{") and super()._is_cut(frame)

    def _read_object(self, value: Mapping[str, object], deltas: list[Delta]) -> None:
        if _only_loaded(value):
            raise FieldError("the server only loaded or unloaded the model")
        self._model = self._model or label(value, "model", self._warnings)
        message = required_mapping(value, "message")
        calls = [self._whole_call(call) for call in objects(message, "tool_calls", _MESSAGE)]
        is_last = value.get("done") is True
        reason = None
        if is_last:
            reason = _finish_reason(value, has_calls=self._calls > 0)
            self._usage = read_usage(value, OLLAMA_USAGE, self._warnings)
        tokens = logprobs(value, "logprobs", "")
        delta = self._parts.add(_content(message), _thinking(message), calls, tokens, reason)
        if (failed := failed_reason(reason)) is not None:
            raise self._with_partial(failed)
        self._done = is_last
        if delta is not None:
            deltas.append(delta)
        if self._done and self._usage is not None:
            deltas.append(Delta(usage=self._usage))

    def _whole_call(self, call: Mapping[str, object]) -> dict[str, object]:
        """A call as one fragment; Ollama never splits a call."""
        call_id, name, arguments = _call(call, self._calls)
        self._calls += 1
        return {"id": call_id, "function": {"name": name, "arguments": arguments}}


_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "num_predict",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_NAMES = {**_OPTIONS, "logprobs": "logprobs"}
_MERGED = frozenset({"options"})
_ROUTE = "Ollama's /api/chat"


@dataclass(frozen=True, slots=True)
class OllamaChat:
    """The native chat format; its route is under the server's root, not under ``/v1``.

    ``extra_body`` may hold ``keep_alive`` and ``options`` (``num_ctx`` and others). The options
    are merged with those from the sampling parameters. The prompt is never cut to the context,
    unless ``extra_body`` says ``truncate: true``, which restores Ollama's default.
    """

    path: str = "/api/chat"
    stream_type: str = "application/x-ndjson"

    def encode(self, request: ChatRequest) -> dict[str, object]:
        """The body to send.

        Raises InvalidRequestError for what the format has no field for, such as several answers,
        ``logit_bias``, a forced tool, or an image that is not inline.
        """
        _refuse_ignored(request, _IGNORED_BY_NATIVE, _ROUTE)
        body: dict[str, object] = {"model": request.model, "messages": to_ollama(request.messages)}
        body["stream"] = request.stream  # Ollama streams if the field is left out
        if request.extra_body.get("truncate") is not True:
            body |= _WHOLE_PROMPT
        body |= _sampling(request)
        if request.response_format is not None:
            schema = request.response_format.schema
            body["format"] = "json" if schema is None else schema
        if _sends_tools(request, _ROUTE):
            body["tools"] = list(request.tools)
        if request.reasoning is not None:
            # OpenAI's value for "off" is "none".
            body["think"] = False if request.reasoning == "none" else request.reasoning
        return with_extra(body, request.extra_body, _MERGED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a successful body that was not streamed; raises as `ollama.decode`."""
        return decode(body, request)

    def decoder(self, request: ChatRequest) -> OllamaChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OllamaChatDecoder(request)


def _sampling(request: ChatRequest) -> dict[str, object]:
    options = sampling_fields(request.sampling, _NAMES, _ROUTE)
    fields: dict[str, object] = {}
    count = options.pop("logprobs", None)
    if count is not None:
        fields["logprobs"] = True
        if count:
            fields["top_logprobs"] = count
    if options:
        fields["options"] = options
    return fields


_OPENAI_ROUTE = "Ollama's /v1"


class OllamaOpenAIChat(OpenAIChat):
    """OpenAI's chat format without the fields that Ollama ignores.

    The token count in each answer is checked, to detect a prompt that was cut.
    """

    __slots__ = ()

    def encode(self, request: ChatRequest) -> dict[str, object]:
        """The body to send; raises InvalidRequestError for what Ollama would ignore."""
        _refuse_ignored(request, _IGNORED_BY_V1, _OPENAI_ROUTE)
        tools = request.tools if _sends_tools(request, _OPENAI_ROUTE) else ()
        return OpenAIChat.encode(self, replace(request, tools=tools, tool_choice=None))

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer; raises ContextLengthError if the server read less than the whole prompt."""
        output = openai_chat.decode(body, request)
        _refuse_a_cut_prompt(output, request)
        return output

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder; its `finish` raises ContextLengthError as `decode` does."""
        return _OllamaOpenAIChatDecoder(request)


class _OllamaOpenAIChatDecoder(OpenAIChatDecoder):
    __slots__ = ()

    def finish(self) -> LLMOutput:
        output = OpenAIChatDecoder.finish(self)
        _refuse_a_cut_prompt(output, self._request)
        return output
