"""The ladder: which ways there are to a structured answer, and which comes after which."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from llmengine.structured.prompts import repair_turn, with_schema
from llmengine.structured.strict import strict_schema
from llmengine.types.request import ResponseFormat

if TYPE_CHECKING:
    from llmengine.structured.misfits import Misfit
    from llmengine.structured.shape import Shape
    from llmengine.types.request import ChatRequest

Step = Literal["json_schema", "json_object", "prompt", "repair"]
"""How an answer was asked for, from the surest way to the last.

``json_schema``: the server holds the model to the schema. ``json_object``: the server's JSON
mode, with the schema in the system message. ``prompt``: the schema in the system message alone,
for servers without a JSON mode. ``repair``: the faulty answer goes back with what is wrong.
"""

_ANY_OBJECT = ResponseFormat()


def possible(step: Step, shape: Shape) -> Step:
    """The step, or the one below: JSON mode gives objects and nothing else."""
    return "prompt" if step == "json_object" and not shape.is_object else step


def after_misfit(step: Step, shape: Shape) -> Step | None:
    """Where to go when an answer does not fit; None at the end of the ladder."""
    if step == "json_schema":
        return possible("json_object", shape)
    return None if step == "repair" else "repair"


def after_refusal(step: Step, shape: Shape) -> Step | None:
    """Where to go when the server does not take such a request; None if nothing is left."""
    if step == "json_schema":
        return possible("json_object", shape)
    return "prompt" if step == "json_object" else None


def schema_format(shape: Shape, *, strict: bool) -> ResponseFormat:
    """What is asked of a server that can hold the model to a schema."""
    return ResponseFormat(strict_schema(shape) if strict else shape.schema, shape.name)


def request_at(
    step: Step, request: ChatRequest, shape: Shape, last: Misfit | None, *, strict: bool
) -> ChatRequest:
    """The request of that step; `last` is the answer that a repair has to mend.

    A repair asks for the same format as the request whose answer it mends.
    """
    if step == "json_schema":
        return replace(request, response_format=schema_format(shape, strict=strict))
    if step == "repair":
        assert last is not None
        messages = repair_turn(request.messages, last.text, last.problem, shape)
        is_json_mode = last.step == "json_object"
    else:
        messages = with_schema(request.messages, shape)
        is_json_mode = step == "json_object"
    wanted = _ANY_OBJECT if is_json_mode else None
    return replace(request, messages=messages, response_format=wanted)
