"""Reading a whole answer of OpenAI's responses API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.dialects.failures import stream_failure
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import SHAPE_ERRORS, cumulative, logprobs, read_object, unexpected
from llmengine.values.outputs import CompletionOutput, LLMOutput, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from llmengine.values.errors import CallError
    from llmengine.values.request import ChatRequest

_CUT = {"max_output_tokens": "length"}


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a response that is completed or incomplete.

    Raises the error that a failed response holds, and UnexpectedResponseError, with a quote of
    the body, for anything else.
    """
    data = read_object(body)
    status = data.get("status")
    if status == "failed":
        raise failed(data, request)
    if status not in {"completed", "incomplete"} or not isinstance(data.get("output"), list):
        raise unexpected(f"the answer is not a finished response (status {status!r})", body)
    try:
        return _output(data, request)
    except SHAPE_ERRORS as exc:
        raise unexpected("the answer is not a response", body) from exc


def failed(response: Mapping[str, Any], request: ChatRequest) -> CallError:
    """The error of a response that failed, with the tokens that it cost."""
    error = stream_failure({"error": response.get("error") or {"message": "the response failed"}})
    head = (response.get("id") or request.request_id, request.prompt)
    spent, model = usage(response.get("usage")), response.get("model")
    error.partial = LLMOutput(*head, (), finished=False, usage=spent, model=model)
    return error


def _output(data: Mapping[str, Any], request: ChatRequest) -> LLMOutput:
    items = data["output"]
    said = [part for item in items if is_answer(item) for part in item["content"]]
    text = "".join(part.get("text") or part.get("refusal") or "" for part in said)
    thought = "\n\n".join(t for item in items if (t := _thought(item)))
    if not thought:
        found, text = split_think(text)
        thought = found or ""
    tokens = logprobs([e for part in said for e in part.get("logprobs") or ()]) or None
    calls = tuple(
        [_tool_call(i) for i in items if i["type"] in {"function_call", "custom_tool_call"}]
    )
    finish = finish_reason(
        data,
        refused=any(part["type"] == "refusal" for part in said),
        calls=bool(calls),
    )
    answer = CompletionOutput(
        0, text, None, cumulative(tokens), tokens, finish, None, thought or None, calls
    )
    return LLMOutput(
        data.get("id") or request.request_id,
        request.prompt,
        (answer,),
        usage=usage(data.get("usage")),
        model=data.get("model"),
    )


def is_answer(item: Mapping[str, Any]) -> bool:
    """Whether a message is what the model answers; a commentary is what it says while it works."""
    return item["type"] == "message" and item.get("phase") in {None, "final_answer"}


def finish_reason(response: Mapping[str, Any], *, refused: bool, calls: bool) -> str:
    """Why the answer ended, in the words of chat, and "refusal" for a refusal."""
    if response.get("status") == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason") or "incomplete"
        return _CUT.get(reason, reason)
    if refused:
        return "refusal"
    return "tool_calls" if calls else "stop"


def _thought(item: Mapping[str, Any]) -> str:
    """The reasoning in an item: in the model's own words where given, else in summary."""
    if item["type"] == "reasoning":
        return _joined(item.get("content") or ()) or _joined(item.get("summary") or (), "\n\n")
    if item["type"] == "message" and not is_answer(item):
        return _joined(item["content"])
    return ""


def _joined(parts: Iterable[Mapping[str, Any]], between: str = "") -> str:
    return between.join(part.get("text") or "" for part in parts)


def _tool_call(item: Mapping[str, Any]) -> ToolCall:
    arguments = item.get("arguments") if item["type"] == "function_call" else item.get("input")
    return ToolCall(item.get("call_id") or "", item["name"], arguments or "")


def usage(value: Mapping[str, Any] | None) -> Usage | None:
    """The token counts of a response; servers leave the details out or null."""
    if not value:
        return None
    given, made = value.get("input_tokens_details"), value.get("output_tokens_details")
    return Usage(
        value.get("input_tokens"),
        value.get("output_tokens"),
        value.get("total_tokens"),
        given.get("cached_tokens") if given else None,
        made.get("reasoning_tokens") if made else None,
    )
