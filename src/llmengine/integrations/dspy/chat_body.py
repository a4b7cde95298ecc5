"""An engine's answers in the shape of OpenAI's chat completions, which all DSPys read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmengine.types.outputs import CompletionOutput, LLMOutput, Logprob, ToolCall, Usage

_FINISH = {"refusal": "content_filter"}


def chat_body(output: LLMOutput, *, model: str) -> dict[str, Any]:
    """The output as the body of a chat completion; ``model`` stands in where none was named."""
    return {
        "id": output.request_id or "chatcmpl-llmengine",
        "object": "chat.completion",
        "created": 0,
        "model": output.model or model,
        "choices": [_choice(answer) for answer in output.outputs],
        "usage": usage_body(output.usage),
    }


def usage_body(usage: Usage | None) -> dict[str, Any]:
    """The token counts that are known, in OpenAI's names."""
    if usage is None:
        return {}
    counts = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    known: dict[str, Any] = {name: count for name, count in counts.items() if count is not None}
    if usage.cached_tokens is not None:
        known["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        known["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return known


def finish_of(reason: str | None) -> str:
    """A finish reason that chat completions know."""
    return _FINISH.get(reason or "stop", reason or "stop")


def _choice(answer: CompletionOutput) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    elif message["content"] is None:
        message["content"] = ""
    choice = {
        "index": answer.index,
        "message": message,
        "finish_reason": finish_of(answer.finish_reason),
    }
    if answer.logprobs is not None:
        choice["logprobs"] = {"content": [_logprob(token) for token in answer.logprobs]}
    return choice


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _logprob(token: Logprob) -> dict[str, Any]:
    return {**_alone(token), "top_logprobs": [_alone(other) for other in token.top]}


def _alone(token: Logprob) -> dict[str, Any]:
    spelled = None if token.bytes is None else list(token.bytes)
    return {"token": token.token, "logprob": token.logprob, "bytes": spelled}
