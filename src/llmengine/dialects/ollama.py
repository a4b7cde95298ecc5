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
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from llmengine.dialects import openai_chat
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
from llmengine.dialects.errors import failed_reason, reported_failure, stream_failure
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
from llmengine.dialects.openai_chat import OpenAIChat, OpenAIChatDecoder
from llmengine.dialects.streaming import AnswerParts, split_think
from llmengine.types.errors import ContextLengthError, InvalidRequestError
from llmengine.types.outputs import CompletionOutput, Delta, LLMOutput, ToolCall
from llmengine.types.sampling import is_neutral

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from llmengine.types.errors import CallError
    from llmengine.types.outputs import Usage
    from llmengine.types.request import ChatRequest, Message


_LEAVE_OUT = "leave it out"
_EVERYWHERE = {
    "n": "send the prompt several times",
    "logit_bias": _LEAVE_OUT,
    "tool_choice": "leave it out, or give it only the tool that it is to call",
    "parallel_tool_calls": _LEAVE_OUT,
}
_NATIVE_ONLY = "Ollama's /api/chat has it: give the engine its endpoint without /v1"
_AN_OPTION = "put it into options"

IN_V1: Mapping[str, str] = {
    **_EVERYWHERE,
    "max_completion_tokens": "it is max_tokens there",
    **dict.fromkeys(("options", "keep_alive", "think", "format", "num_ctx"), _NATIVE_ONLY),
}
"""Fields that Ollama's ``/v1`` ignores, with what to do instead."""

IN_NATIVE: Mapping[str, str] = {
    **_EVERYWHERE,
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "it is num_predict in options"),
    **dict.fromkeys(("num_ctx", "num_predict", "temperature", "top_p", "seed"), _AN_OPTION),
    "response_format": "it is format there",
    "reasoning_effort": "it is think there",
}
"""Fields that Ollama's ``/api/chat`` ignores, with what to do instead."""

_SAMPLING = ("n", "logit_bias")
_DEFAULTS = [("tool_choice", "auto"), ("parallel_tool_calls", True)]


def refuse_ignored(request: ChatRequest, ignored: Mapping[str, str], route: str) -> None:
    """Raise InvalidRequestError for a field of the request that the route would ignore.

    A value that asks for Ollama's default behaviour is allowed.
    """
    sampling = request.sampling.given()
    asked = {name: sampling[name] for name in _SAMPLING if name in sampling}
    for name, value in {**request.extra_body, **asked}.items():
        as_ever = value is None or (name, value) in _DEFAULTS or is_neutral(name, value)
        if name in ignored and not as_ever:
            raise InvalidRequestError(_ignored_message(name, value, route, ignored[name]))


def offers_tools(request: ChatRequest, route: str) -> bool:
    """Whether to send the tools; for ``tool_choice: none`` they are not sent.

    Raises InvalidRequestError if a tool must be called, because the route has no field for that.
    """
    choice = request.tool_choice
    if choice not in (None, "auto", "none"):
        raise InvalidRequestError(
            _ignored_message("tool_choice", choice, route, _EVERYWHERE["tool_choice"])
        )
    return bool(request.tools) and choice != "none"


def _ignored_message(name: str, value: object, route: str, advice: str) -> str:
    return f"{name} is {value!r}, but {route} takes {name} and ignores it; {advice}"


def to_ollama(messages: Iterable[Message]) -> list[Message]:
    """OpenAI's messages in Ollama's format: flat text, separate images, tool calls as objects.

    Raises InvalidRequestError, which names the message, for a part that Ollama cannot take.
    """
    tool_names: dict[str, str] = {}
    written = []
    for place, message in enumerate(messages):
        try:
            written.append(_message(message, tool_names))
        except _CannotSayError as exc:
            raise InvalidRequestError(f"message {place}: {exc}") from None
    return written


class _CannotSayError(Exception):
    """A message has a part that Ollama's format cannot hold."""


def _message(message: Message, tool_names: dict[str, str]) -> Message:
    # Other fields, such as Ollama's own `images`, are sent as they are.
    ours = {k: v for k, v in message.items() if k not in _REWRITTEN}
    ours |= _content(message.get("content"))
    if ours["role"] == "developer":
        ours["role"] = "system"
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if thinking:
        ours["thinking"] = thinking
    if message.get("tool_calls"):
        ours["tool_calls"] = [_sent_tool_call(c, tool_names) for c in message["tool_calls"]]
    if ours["role"] == "tool":
        ours |= _tool_name(message, tool_names)
    return ours


_REWRITTEN = frozenset({"content", "tool_calls", "reasoning", "reasoning_content"})


def _content(content: Any) -> dict[str, Any]:
    """``content`` as one string, with ``images`` if there are any."""
    if content is None or isinstance(content, str):
        return {"content": content or ""}
    if not isinstance(content, (list, tuple)):
        raise _CannotSayError(f"content is a {type(content).__name__}, not a text or a list")
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(_image(part["image_url"]))
        else:
            raise _CannotSayError(f"Ollama takes text and image parts, not {kind or part!r}")
    joined: dict[str, Any] = {"content": "\n".join(texts)}
    return joined | {"images": images} if images else joined


def _image(given: str | Mapping[str, Any]) -> str:
    """The base64 text of an image; Ollama does not fetch images from addresses."""
    url = given if isinstance(given, str) else str(given.get("url"))
    header, comma, data = url.partition(",")
    if not (header.startswith("data:") and header.endswith(";base64") and comma):
        raise _CannotSayError(
            f"image {url[:60]!r} is not inline, and Ollama fetches no addresses; "
            "give it as 'data:image/png;base64,...'"
        )
    return data


def _sent_tool_call(call: Mapping[str, Any], tool_names: dict[str, str]) -> dict[str, Any]:
    function = call["function"]
    if call.get("id"):
        tool_names[call["id"]] = function["name"]
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        arguments = _arguments(arguments, function["name"])
    written = {"function": {"name": function["name"], "arguments": arguments}}
    return {"id": call["id"], **written} if call.get("id") else written


def _arguments(text: str, name: str) -> dict[str, Any]:
    try:
        arguments = from_json(text)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise _CannotSayError(
            f"the arguments of the call of {name!r} are {text[:60]!r}; Ollama takes a JSON object"
        )
    return arguments


def _tool_name(message: Message, tool_names: Mapping[str, str]) -> dict[str, str]:
    """The tool that a result belongs to: Ollama wants its name, OpenAI the id of the call."""
    name = message.get("name") or tool_names.get(message.get("tool_call_id") or "")
    return {"tool_name": name} if name else {}


# Values of done_reason for a request without messages, which only loads or unloads the model.
_NO_ANSWER = frozenset({"load", "unload"})
PATH = "message."
_CALL = f"{PATH}tool_calls[]."


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
    if only_loaded(data):
        raise unexpected("the server only loaded or unloaded the model", body)
    warnings: dict[str, str] = {}
    try:
        output = LLMOutput(
            request.request_id,
            request.prompt,
            (_output(data, request),),
            usage=read_usage(data, OLLAMA_USAGE, warnings),
            model=label(data, "model", warnings),
            warnings=tuple(warnings.values()),
        )
    except FieldError as error:
        raise not_read("the answer is not a chat", error, body) from None
    failed = failed_reason(output.outputs[0].finish_reason)
    if failed is not None:
        failed.partial = replace(output, finished=False)
        raise failed
    refuse_a_cut_prompt(output, request)
    return output


def _output(data: Mapping[str, Any], request: ChatRequest) -> CompletionOutput:
    message = required_mapping(data, "message")
    said, reasoning = content(message), thinking(message) or None
    if reasoning is None:
        reasoning, said = split_think(said, request.reasoning)
    found = enumerate(objects(message, "tool_calls", PATH))
    calls = tuple([_tool_call(call, place) for place, call in found])
    tokens = logprobs(data, "logprobs", "") or None
    return CompletionOutput(
        0,
        said,
        None,
        cumulative(tokens),
        tokens,
        finish_reason(data, has_calls=bool(calls)),
        None,
        reasoning,
        calls,
    )


def content(message: Mapping[str, Any]) -> str:
    """The text of a message; Ollama leaves the field out if there is none."""
    return text(message, "content", PATH) or ""


def thinking(message: Mapping[str, Any]) -> str:
    """The reasoning of a message; Ollama leaves the field out if there is none."""
    return text(message, "thinking", PATH) or ""


def call_id(call: Mapping[str, Any], place: int) -> str:
    """The id of a call. Older servers send none, so one is made: a result must name its call."""
    return text(call, "id", _CALL) or f"call_{place}"


def call_function(call: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a call, and its arguments as JSON text; Ollama sends them as an object."""
    function = required_mapping(call, "function", _CALL)
    name = required_text(function, "name", f"{_CALL}function.")
    return name, json_text(function, "arguments", f"{_CALL}function.") or "{}"


def _tool_call(call: Mapping[str, Any], place: int) -> ToolCall:
    return ToolCall(call_id(call, place), *call_function(call))


def finish_reason(data: Mapping[str, Any], *, has_calls: bool) -> str:
    """Why a finished answer ended, in OpenAI's terms.

    Ollama has no reason for tool calls, and older servers send no reason at all.
    """
    reason = text(data, "done_reason") or "stop"
    return "tool_calls" if has_calls and reason == "stop" else reason


def only_loaded(data: Mapping[str, Any]) -> bool:
    """Whether the server only loaded or unloaded the model, because there were no messages."""
    reason = data.get("done_reason")
    return isinstance(reason, str) and reason in _NO_ANSWER


# With `shift`, Ollama would drop the start of the conversation once the answer fills the context.
WHOLE = {"truncate": False, "shift": False}


def refuse_a_cut_prompt(output: LLMOutput, request: ChatRequest) -> None:
    """Raise ContextLengthError if the server counted fewer tokens than the prompt has words.

    A word between blanks is at least one token, so fewer tokens prove that the prompt was cut.
    More tokens do not prove that all of it was read: for scripts without blanks, such as Chinese,
    the count alone says nothing.
    """
    read = _read(output, request)
    words = sum(len(text.split()) for text in _texts(request))
    if read is not None and words > read:
        raise _cut(output, f"it has at least {words} words, and {read} tokens were read")


def may_be_cut(output: LLMOutput, request: ChatRequest) -> bool:
    """Whether the prompt is so long that the tokens read may be what a cut left of it."""
    read = _read(output, request)
    return read is not None and sum(len(t.encode()) for t in _texts(request)) > _context_of(read)


def refuse_half_a_context(output: LLMOutput, request: ChatRequest, context: int) -> None:
    """Raise ContextLengthError if the token count is what Ollama leaves of a prompt that is cut.

    A whole prompt of exactly that length is taken for one that was cut.
    """
    read = _read(output, request)
    if read is not None and context in {_context_of(read), _context_of(read) + 1}:
        raise _cut(
            output,
            f"{read} tokens were read, which is what Ollama leaves of a prompt that is longer than "
            f"its context of {context}",
        )


def _context_of(read: int) -> int:
    """The length of the context for which Ollama cuts a prompt to ``read`` tokens.

    Of a prompt that does not fit, Ollama keeps the first four tokens (``num_keep``) and as much
    of the end as fits into half of the remaining room: ``read = 4 + (context - 4) / 2``.
    """
    return 2 * read - 4


def _cut(output: LLMOutput, what: str) -> ContextLengthError:
    error = ContextLengthError(
        f"the server cut the prompt without saying so: {what}; give the model more context "
        "(num_ctx in the options of /api/chat, OLLAMA_CONTEXT_LENGTH of the server) or a shorter "
        "prompt; to accept the cut say so by extra_body: {truncate: true}"
    )
    error.partial = output
    return error


def _read(output: LLMOutput, request: ChatRequest) -> int | None:
    """How many tokens of the prompt were read; None if unknown, or if the user accepts a cut."""
    accepted = request.extra_body.get("truncate") is True
    return None if accepted or output.usage is None else output.usage.prompt_tokens


def _texts(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, (list, tuple)):
            texts = (part.get("text") for part in content if isinstance(part, Mapping))
            yield from (text for text in texts if isinstance(text, str))


class OllamaChatDecoder:
    """Turns the lines of one call into deltas; see ``base.StreamDecoder``.

    An answer is complete once a line says ``"done": true``.
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
        line that is not part of a chat. Both hold `partial`.
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
        """The deltas of a last line without its line feed; an object that is cut off is dropped."""
        deltas: list[Delta] = []
        for line in self._lines.finish():
            try:
                value = from_json(line)
            except ValueError:
                if line.lstrip().startswith(b"{"):
                    continue  # `finish` raises StreamIncompleteError
                what = "the stream ends in a line that is not JSON"
                raise self._holding(unexpected(what, line)) from None
            self._line(value, line, deltas)
        return deltas

    def finish(self) -> LLMOutput:
        """The whole answer.

        Raises StreamIncompleteError, with `partial`, if the end of the answer has not come, and
        ContextLengthError if the server read less than the whole prompt.
        """
        self.end()
        if not self._done:
            raise incomplete(self.partial)
        refuse_a_cut_prompt(self.partial, self._request)
        return self.partial

    @property
    def partial(self) -> LLMOutput:
        """What has arrived so far; ``finished`` is True once the end of the answer has come."""
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
        if only_loaded(value):
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
        calls = [self._whole_call(c) for c in objects(message, "tool_calls", PATH)]
        is_last = value.get("done") is True
        reason = None
        if is_last:
            reason = finish_reason(value, has_calls=self._calls > 0)
            self._usage = read_usage(value, OLLAMA_USAGE, self._warnings)
        delta = self._parts.add(
            content(message),
            thinking(message),
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
        """A call as one fragment; Ollama never splits a call."""
        name, arguments = call_function(call)
        place, self._calls = self._calls, self._calls + 1
        return {
            "id": call_id(call, place),
            "function": {"name": name, "arguments": arguments},
        }

    def _holding(self, error: CallError) -> CallError:
        """The error, with all that has arrived as its `partial`."""
        error.partial = replace(self.partial, finished=False)
        return error


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
_JOINED = frozenset({"options"})
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

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send.

        Raises InvalidRequestError for what the format has no field for, such as several answers,
        ``logit_bias``, a forced tool, or an image that is not inline.
        """
        refuse_ignored(request, IN_NATIVE, _ROUTE)
        body: dict[str, Any] = {"model": request.model, "messages": to_ollama(request.messages)}
        body["stream"] = request.stream  # Ollama streams if the field is left out
        if request.extra_body.get("truncate") is not True:
            body |= WHOLE
        body |= _sampling(request)
        if request.response_format is not None:
            schema = request.response_format.schema
            body["format"] = "json" if schema is None else schema
        if offers_tools(request, _ROUTE):
            body["tools"] = list(request.tools)
        if request.reasoning is not None:
            # OpenAI's value for "off" is "none".
            body["think"] = False if request.reasoning == "none" else request.reasoning
        return with_extra(body, request.extra_body, _JOINED)

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer in a successful body that was not streamed; raises as `ollama.decode`."""
        return decode(body, request)

    def decoder(self, request: ChatRequest) -> OllamaChatDecoder:
        """A new decoder for the streamed answer to `request`."""
        return OllamaChatDecoder(request)


def _sampling(request: ChatRequest) -> dict[str, Any]:
    options = sampling_fields(request.sampling, _NAMES, _ROUTE)
    fields: dict[str, Any] = {}
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

    def encode(self, request: ChatRequest) -> dict[str, Any]:
        """The body to send; raises InvalidRequestError for what Ollama would ignore."""
        refuse_ignored(request, IN_V1, _OPENAI_ROUTE)
        tools = request.tools if offers_tools(request, _OPENAI_ROUTE) else ()
        return OpenAIChat.encode(self, replace(request, tools=tools, tool_choice=None))

    def decode(self, body: bytes, request: ChatRequest) -> LLMOutput:
        """The answer; raises ContextLengthError if the server read less than the whole prompt."""
        output = openai_chat.decode(body, request)
        refuse_a_cut_prompt(output, request)
        return output

    def decoder(self, request: ChatRequest) -> OpenAIChatDecoder:
        """A new decoder; its `finish` raises ContextLengthError as `decode` does."""
        return _Decoder(request)


class _Decoder(OpenAIChatDecoder):
    __slots__ = ()

    def finish(self) -> LLMOutput:
        output = OpenAIChatDecoder.finish(self)
        refuse_a_cut_prompt(output, self._request)
        return output
