"""Reading the JSON objects of Ollama's native chat: a whole answer, and what its lines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from llmengine.dialects.ollama_prompt import refuse_a_cut_prompt
from llmengine.dialects.reasoning import split_think
from llmengine.dialects.wire import SHAPE_ERRORS, cumulative, logprobs, read_object, unexpected
from llmengine.values.outputs import CompletionOutput, LLMOutput, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.values.request import ChatRequest

# Answers to a request without messages: the model was only loaded or unloaded.
_NO_ANSWER = frozenset({"load", "unload"})


def decode(body: bytes, request: ChatRequest) -> LLMOutput:
    """The answer in the body of a chat that was not streamed.

    Raises UnexpectedResponseError, with a quote of the body, for anything else, and
    ContextLengthError if the server read less than the whole prompt.
    """
    data = read_object(body)
    if data.get("error"):
        raise unexpected("an error in a successful answer", body)
    if data.get("done") is not True:
        raise unexpected("the answer is not a finished chat", body)
    if only_loaded(data):
        raise unexpected("the server only loaded or unloaded the model", body)
    try:
        output = LLMOutput(
            request.request_id,
            request.prompt,
            (_output(data),),
            usage=usage(data),
            model=data.get("model"),
        )
    except SHAPE_ERRORS as exc:
        raise unexpected("the answer is not a chat", body) from exc
    refuse_a_cut_prompt(output, request)
    return output


def _output(data: Mapping[str, Any]) -> CompletionOutput:
    message = data["message"]
    text, reasoning = content(message), message.get("thinking")
    if not reasoning:
        reasoning, text = split_think(text)
    calls = tuple([_tool_call(c, place) for place, c in enumerate(message.get("tool_calls") or ())])
    given = data.get("logprobs")
    tokens = logprobs(given) if given else None
    return CompletionOutput(
        0,
        text,
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
    text = message.get("content") or ""
    if not isinstance(text, str):
        raise TypeError("content is not text")
    return text


def call_id(call: Mapping[str, Any], place: int) -> str:
    """The id of a call; older servers give none, and a result must be able to name its call."""
    return call.get("id") or f"call_{place}"


def arguments(function: Mapping[str, Any]) -> str:
    """The arguments of a call as JSON text; Ollama sends the object itself."""
    return to_json(function.get("arguments") or {}).decode()


def _tool_call(call: Mapping[str, Any], place: int) -> ToolCall:
    function = call["function"]
    return ToolCall(call_id(call, place), function["name"], arguments(function))


def finish_reason(data: Mapping[str, Any], *, has_calls: bool) -> str:
    """Why a finished answer ended, in OpenAI's words.

    Ollama does not count calls of tools as a reason, and older servers give none at all.
    """
    reason: str = data.get("done_reason") or "stop"
    return "tool_calls" if has_calls and reason == "stop" else reason


def only_loaded(data: Mapping[str, Any]) -> bool:
    """Whether an end says that nothing was asked: the model was only loaded or unloaded."""
    return data.get("done_reason") in _NO_ANSWER


def usage(data: Mapping[str, Any]) -> Usage | None:
    """The token counts of an answer; a count that is missing stays None."""
    prompt, completion = data.get("prompt_eval_count"), data.get("eval_count")
    if prompt is None and completion is None:
        return None
    total = prompt + completion if prompt is not None and completion is not None else None
    return Usage(prompt, completion, total)
