"""Reading the JSON objects of Ollama's native chat: a whole answer, and what its lines share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.dialects.failures import failed_reason, reported_failure
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
from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import cumulative, logprobs, not_read, read_object, unexpected
from llmengine.types.outputs import CompletionOutput, LLMOutput, ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.request import ChatRequest

# Answers to a request without messages: the model was only loaded or unloaded.
_NO_ANSWER = frozenset({"load", "unload"})
PATH = "message."
_CALL = f"{PATH}tool_calls[]."


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a chat that was not streamed.

    Raises the error that the server reports in the body, UnexpectedResponseError, with a quote of
    the body, for anything else that is not an answer, and ContextLengthError if the server read
    less than the whole prompt.
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
    """The text of a message, which Ollama leaves out when there is none."""
    return text(message, "content", PATH) or ""


def thinking(message: Mapping[str, Any]) -> str:
    """The reasoning of a message, which Ollama leaves out when there is none."""
    return text(message, "thinking", PATH) or ""


def call_id(call: Mapping[str, Any], place: int) -> str:
    """The id of a call; older servers give none, and a result must be able to name its call."""
    return text(call, "id", _CALL) or f"call_{place}"


def call_function(call: Mapping[str, Any]) -> tuple[str, str]:
    """The name and the arguments of a call; the arguments are JSON text, Ollama sends an object."""
    function = required_mapping(call, "function", _CALL)
    name = required_text(function, "name", f"{_CALL}function.")
    return name, json_text(function, "arguments", f"{_CALL}function.") or "{}"


def _tool_call(call: Mapping[str, Any], place: int) -> ToolCall:
    return ToolCall(call_id(call, place), *call_function(call))


def finish_reason(data: Mapping[str, Any], *, has_calls: bool) -> str:
    """Why a finished answer ended, in OpenAI's words.

    Ollama does not count calls of tools as a reason, and older servers give none at all.
    """
    reason = text(data, "done_reason") or "stop"
    return "tool_calls" if has_calls and reason == "stop" else reason


def only_loaded(data: Mapping[str, Any]) -> bool:
    """Whether an end says that nothing was asked: the model was only loaded or unloaded."""
    reason = data.get("done_reason")
    return isinstance(reason, str) and reason in _NO_ANSWER
