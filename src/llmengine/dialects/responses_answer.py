"""Reading a whole answer of OpenAI's responses API."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmengine.dialects.failures import reported_failure, stream_failure
from llmengine.dialects.fields import (
    RESPONSES_USAGE,
    FieldError,
    json_text,
    label,
    mapping,
    objects,
    read_usage,
    required_text,
    text,
)
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import cumulative, logprobs, not_read, read_object, unexpected
from llmengine.types.outputs import CompletionOutput, LLMOutput, ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.types.errors import CallError
    from llmengine.types.request import ChatRequest

_CUT = {"max_output_tokens": "length"}
_ITEM = "output[]."
_CONTENT = f"{_ITEM}content[]."
CALLS = frozenset({"function_call", "custom_tool_call"})
"""Types of the items that call a tool."""


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a response that is completed or incomplete.

    Raises the error that a failed response holds, and UnexpectedResponseError, with a quote of
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
    """The error of a response that failed, with the tokens that it cost."""
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
    """The error that stands beside an answer, which is kept if it can be read."""
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
    """Whether a message is what the model answers; a commentary is what it says while it works."""
    if required_text(item, "type", _ITEM) != "message":
        return False
    return text(item, "phase", _ITEM) in {None, "final_answer"}


def finish_reason(response: Mapping[str, Any], *, refused: bool, calls: bool) -> str:
    """Why the answer ended, in the words of chat, and "refusal" for a refusal."""
    if response.get("status") == "incomplete":
        details = mapping(response, "incomplete_details") or {}
        reason = text(details, "reason", "incomplete_details.") or "incomplete"
        return _CUT.get(reason, reason)
    if refused:
        return "refusal"
    return "tool_calls" if calls else "stop"


def _thought(item: Mapping[str, Any]) -> str:
    """The reasoning in an item: in the model's own words where given, else in summary."""
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
