"""Requests, results and failures in the attribute names of the conventions; never contents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.types.errors import CallError

if TYPE_CHECKING:
    from llmengine.types.outputs import LLMOutput, Result, Usage
    from llmengine.types.request import ChatRequest

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}


def asked(request: ChatRequest) -> dict[str, Any]:
    """How the answer is to be sampled and in what shape it is to come."""
    sampling = request.sampling
    said = {f"gen_ai.request.{name}": getattr(sampling, f) for f, name in _SAMPLING.items()}
    if sampling.stop:
        stop = sampling.stop
        said["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    said["gen_ai.request.stream"] = request.stream or None
    shaped = request.response_format is not None or request.output_model is not None
    said["gen_ai.output.type"] = "json" if shaped else None
    return _given(said)


def told(result: Result, output: LLMOutput | None, first_content: float | None) -> dict[str, Any]:
    """What is known at the end: the answer's particulars, and the usage of all attempts."""
    usage = result.usage
    said: dict[str, Any] = {
        "gen_ai.response.time_to_first_chunk": first_content,
        "llmengine.attempts": result.attempts,
        "llmengine.uncounted_attempts": result.uncounted or None,
        "llmengine.cost": result.cost,
        "llmengine.currency": result.currency,
    }
    if usage is not None:
        said["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        said["gen_ai.usage.output_tokens"] = usage.completion_tokens
        said["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        said["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if output is not None:
        reasons = [o.finish_reason for o in output.outputs if o.finish_reason]
        said["gen_ai.response.id"] = output.request_id or None
        said["gen_ai.response.model"] = output.model
        said["gen_ai.response.finish_reasons"] = reasons or None
        said["llmengine.schema_strategy"] = output.schema_strategy
    return _given(said)


def tokens(usage: Usage | None) -> dict[str, int]:
    """Token counts by the conventions' type."""
    if usage is None:
        return {}
    counts = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
    return {kind: count for kind, count in counts.items() if count is not None}


def failure_of(error: Exception) -> dict[str, Any]:
    """The kind of a failure, and nothing of its message, which may quote an answer."""
    said: dict[str, Any] = {"error.type": type(error).__name__}
    if isinstance(error, CallError):
        said["http.response.status_code"] = error.status
        said["llmengine.clock"] = error.clock
    return _given(said)


def _given(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
