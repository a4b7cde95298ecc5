"""Answers held against the output model; one that does not fit is never returned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from llmengine.values.errors import StructuredOutputError, TruncatedError

if TYPE_CHECKING:
    from llmengine.values.outputs import CompletionOutput, LLMOutput

_SHOWN = 200


def validated(output: LLMOutput, model: type[Any], strategy: str) -> LLMOutput:
    """The output with ``parsed`` set on every answer.

    Raises TruncatedError if an answer that does not fit was cut by the token limit, and
    StructuredOutputError if it simply does not fit; both hold the output as ``partial``.
    """
    outputs = tuple(replace(o, parsed=_parse(o, model, output)) for o in output.outputs)
    return replace(output, outputs=outputs, schema_strategy=strategy)


def _parse(answer: CompletionOutput, model: type[Any], output: LLMOutput) -> Any:
    try:
        return model.model_validate_json(answer.text)
    except ValidationError as error:
        if answer.finish_reason == "length":
            msg = (
                f"the answer was cut by the token limit before it was a whole {model.__name__}; "
                "raise max_tokens"
            )
            raise TruncatedError(msg, partial=output) from error
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        msg = (
            f"the answer is no {model.__name__}: {where}: {first['msg']}; "
            f"it reads {answer.text[:_SHOWN]!r}"
        )
        raise StructuredOutputError(msg, partial=output) from error
