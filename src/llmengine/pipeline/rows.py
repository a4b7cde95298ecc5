"""One line of a step's file: what was asked of one record, and what became of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmengine.types.errors import CallError

if TYPE_CHECKING:
    from llmengine.pipeline.step import Step
    from llmengine.types.errors import LLMEngineError
    from llmengine.types.outputs import LLMOutput, Result
    from llmengine.types.request import Message

Row = dict[str, Any]


def answered_row(step: Step, record_id: str, prompt: list[Message], result: Result) -> Row:
    """The line of a record that was sent, answered or not; a failed one keeps its partial text."""
    error = result.error
    output = result.output or (error.partial if isinstance(error, CallError) else None)
    return {
        "id": record_id,
        "prompt": prompt,
        **_said(output),
        "parsed": _parsed(step, result),
        "attempts": result.attempts,
        "usage": asdict(result.usage) if result.usage else None,
        "cost": result.cost,
        "currency": result.currency,
        "schema_strategy": output.schema_strategy if output else None,
        "model": output.model if output else None,
        "error": error_of(error) if error else None,
    }


def unsent_row(record_id: str, error: LLMEngineError) -> Row:
    """The line of a record whose prompt could not be made."""
    return {
        "id": record_id,
        "prompt": None,
        **_said(None),
        "parsed": None,
        "attempts": 0,
        "usage": None,
        "cost": 0.0,
        "currency": None,
        "schema_strategy": None,
        "model": None,
        "error": error_of(error),
    }


def answer_of(step: Step, row: Row) -> Any:
    """What later steps see of an answered line: the parsed data, or the text."""
    return row["text"] if step.output_model is None else row["parsed"]


def error_of(error: LLMEngineError) -> dict[str, Any]:
    """An error as data: its class, its words, and the status if a server gave one."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "status": getattr(error, "status", None),
    }


def _said(output: LLMOutput | None) -> Row:
    first = output.outputs[0] if output and output.outputs else None
    return {
        "text": first.text if first else None,
        "reasoning": first.reasoning if first else None,
        "finish_reason": first.finish_reason if first else None,
    }


def _parsed(step: Step, result: Result) -> Any:
    if result.output is None or step.output_model is None:
        return None
    return result.output.parsed.model_dump(mode="json", by_alias=True)
