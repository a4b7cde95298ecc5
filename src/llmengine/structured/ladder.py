"""The ladder: the steps that request a structured answer, their order, and their requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llmengine.structured.strict import strict_schema
from llmengine.types.errors import BadRequestError, CallError, StructuredOutputError
from llmengine.types.request import ResponseFormat

if TYPE_CHECKING:
    from llmengine.structured.schema import Shape
    from llmengine.types.request import ChatRequest, Message
    from llmengine.types.wire import AssistantMessage, SystemMessage, TextPart, UserMessage


@dataclass(frozen=True, slots=True)
class RejectedAnswer:
    """An answer that did not fit the shape, and the reason."""

    step: SchemaStep
    error: StructuredOutputError

    @property
    def problem(self) -> str:
        """What is wrong with the answer, as text."""
        return self.error.message

    @property
    def text(self) -> str:
        """The text of the first answer."""
        outputs = self.error.partial.outputs if self.error.partial else ()
        return outputs[0].text if outputs else ""


def no_fitting_answer(rejected: list[RejectedAnswer], shape: Shape) -> StructuredOutputError:
    """The error at the end of the ladder, with the problem of each step.

    The last output is its ``partial``.
    """
    problems = " | ".join(f"{m.step}: {m.problem}" for m in rejected)
    msg = f"no step gave an answer that fits {shape.name}: {problems}"
    error = StructuredOutputError(msg, partial=rejected[-1].error.partial)
    error.__cause__ = rejected[-1].error
    return error


def interrupted(
    error: CallError, step: SchemaStep, rejected: list[RejectedAnswer], shape: Shape
) -> CallError:
    """The error of a step without an answer, after steps whose answers did not fit.

    If the server refused the request, it is the error of `no_fitting_answer`. Any other error is
    returned as it is, with the last answer as its ``partial``.
    """
    if not rejected:
        return error
    if isinstance(error, BadRequestError):
        refused = StructuredOutputError(error.message, partial=rejected[-1].error.partial)
        return no_fitting_answer([*rejected, RejectedAnswer(step, refused)], shape)
    if error.partial is None:
        error.partial = rejected[-1].error.partial
    before = " | ".join(f"{m.step}: {m.problem}" for m in rejected)
    error.advise(f"before that, {before}")
    return error


_SYSTEM_ROLES = frozenset({"system", "developer"})
_NO_ANSWER = "(an empty answer)"  # some servers refuse a message without text


def with_schema_message(messages: tuple[Message, ...], shape: Shape) -> tuple[Message, ...]:
    """The messages with the schema in the system message.

    An existing system message is extended, because many chat templates accept only one system
    message, and only as the first message.
    """
    instruction = (
        "Answer with one JSON value that fits this JSON schema and with nothing else: "
        f"no prose, no code fence.\n{shape.text}"
    )
    first = messages[0]
    if first["role"] not in _SYSTEM_ROLES:
        system: SystemMessage = {"role": "system", "content": instruction}
        return (system, *messages)
    content = first.get("content") or ""
    if isinstance(content, Sequence) and not isinstance(content, str):
        part: TextPart = {"type": "text", "text": instruction}
        extended: object = [*content, part]
    else:
        extended = f"{content}\n\n{instruction}" if content else instruction
    return ({**first, "content": extended}, *messages[1:])


def with_repair_message(
    messages: tuple[Message, ...], faulty: str, problem: str, shape: Shape
) -> tuple[Message, ...]:
    """The messages, followed by the faulty answer and a user message that asks to correct it."""
    instruction = (
        f"This does not fit: {problem}.\n"
        f"Respond ONLY in JSON that fits this JSON schema:\n{shape.text}"
    )
    text = faulty if faulty.strip() else _NO_ANSWER
    answer: AssistantMessage = {"role": "assistant", "content": text}
    correction: UserMessage = {"role": "user", "content": instruction}
    return (*messages, answer, correction)


SchemaStep = Literal["json_schema", "json_object", "prompt", "repair"]
"""A way to request an answer, from the most to the least reliable one.

``json_schema``: the server enforces the schema; what it is known to ignore is validated here, and
then the schema is in the system message too. ``json_object``: the server's JSON mode, with the
schema in the system message. ``prompt``: only the schema in the system message, for servers
without a JSON mode. ``repair``: the faulty answer is sent back together with its problem.
"""

_ANY_OBJECT = ResponseFormat()


def possible_step(step: SchemaStep, shape: Shape) -> SchemaStep:
    """The step, or the next one if the shape is not an object: JSON mode gives only objects."""
    return "prompt" if step == "json_object" and not shape.is_object else step


def step_after_answer(step: SchemaStep, shape: Shape, *, partly: bool) -> SchemaStep | None:
    """The next step after an answer that does not fit; None at the end of the ladder.

    A server that enforces the schema ``partly`` gets the answer back and still enforces that part.
    """
    if step == "json_schema" and not partly:
        return possible_step("json_object", shape)
    return None if step == "repair" else "repair"


def step_after_refusal(step: SchemaStep, shape: Shape) -> SchemaStep | None:
    """The next step after the server refused the request; None if no step is left."""
    if step == "json_schema":
        return possible_step("json_object", shape)
    return "prompt" if step == "json_object" else None


def schema_format(shape: Shape, *, strict: bool) -> ResponseFormat:
    """The response format for a server that can enforce a schema."""
    return ResponseFormat(strict_schema(shape) if strict else shape.schema, shape.name)


def request_at(  # noqa: PLR0913 - what the request depends on
    step: SchemaStep,
    request: ChatRequest,
    shape: Shape,
    last: RejectedAnswer | None,
    *,
    strict: bool,
    partly: bool,
) -> ChatRequest:
    """The request of that step; `last` is the answer that a repair must correct.

    A repair has the response format of the faulty answer. If the server enforces the schema only
    ``partly``, the schema is in the system message too.
    """
    constrains = step
    if step == "repair":
        assert last is not None
        messages = with_repair_message(request.messages, last.text, last.problem, shape)
        constrains = last.step
    elif step == "json_schema" and not partly:
        messages = request.messages
    else:
        messages = with_schema_message(request.messages, shape)
    wanted = _ANY_OBJECT if constrains == "json_object" else None
    if constrains == "json_schema":
        wanted = schema_format(shape, strict=strict)
    return replace(request, messages=messages, response_format=wanted)
