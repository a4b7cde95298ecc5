"""The columns that a row gains: one flat, typed value each, whatever became of its prompt."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmengine.structured.schema import shape_of
from llmengine.types.errors import CallError, StructuredOutputError
from llmengine.types.outputs import Result, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.types.outputs import LLMOutput

# Each column with Arrow's name of its type; all of them may be null but `attempts`.
KINDS = {
    "text": "string",
    "parsed": "string",
    "reasoning": "string",
    "tool_calls": "string",
    "finish_reason": "string",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "total_tokens": "int64",
    "attempts": "int64",
    "error": "string",
    "error_message": "string",
}


def columns_of(results: Sequence[Result], output_model: Any) -> dict[str, list[Any]]:
    """One value a result in each of the columns of `KINDS`."""
    rows = [_row(result, output_model) for result in results]
    return {name: [row[name] for row in rows] for name in KINDS}


def _row(result: Result, output_model: Any) -> dict[str, Any]:
    parsed, error = None, result.error
    if result.output is not None and output_model is not None:
        try:
            parsed = _as_json(result.output.parsed, output_model)
        except Exception as raised:  # noqa: BLE001 - a model's own serializer must not end the job
            error = _unwritable(raised, result.output)
    usage = result.usage or Usage()
    return {
        **_said(result.output or (error.partial if isinstance(error, CallError) else None)),
        "parsed": parsed,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "attempts": result.attempts,
        "error": type(error).__name__ if error else None,
        "error_message": str(error) if error else None,
    }


def _said(output: LLMOutput | None) -> dict[str, Any]:
    first = output.outputs[0] if output and output.outputs else None
    calls = [asdict(call) for call in first.tool_calls] if first else []
    return {
        "text": first.text if first else None,
        "reasoning": first.reasoning if first else None,
        "tool_calls": json.dumps(calls, ensure_ascii=False) if calls else None,
        "finish_reason": first.finish_reason if first else None,
    }


def _as_json(parsed: Any, output_model: Any) -> str:
    return shape_of(output_model).adapter.dump_json(parsed, by_alias=True).decode()


def _unwritable(raised: Exception, output: LLMOutput) -> CallError:
    return StructuredOutputError(
        f"the answer fits output_model, but cannot be written as JSON: {raised}", partial=output
    )
