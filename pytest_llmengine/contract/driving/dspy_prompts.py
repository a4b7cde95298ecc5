"""Questions that hold their own answer, so that a row judges the server and not the model."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

P = TypeVar("P")


def repeating(**fields: Any) -> str:
    """A question that asks to repeat its answer, field by field as DSPy's ChatAdapter writes it."""
    said = "\n\n".join(f"[[ ## {name} ## ]]\n{_written(v)}" for name, v in fields.items())
    return f"Repeat these lines:\n\n{said}\n\n[[ ## completed ## ]]"


def rehearsed(program: P, *shown: dict[str, Any], **inputs: Any) -> P:
    """The program with demos that repeat: with three of them a model of 135M does it as well.

    ``shown`` is the fields of each answer, ``inputs`` what the demos are given beside the question.
    """
    import dspy  # noqa: PLC0415 - heavy and optional

    given = {"question", *inputs}
    demos = [dspy.Example(question=repeating(**fields), **inputs, **fields) for fields in shown]
    program.demos = [demo.with_inputs(*given) for demo in demos]  # type: ignore[attr-defined] # DSPy's
    return program


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(value)
