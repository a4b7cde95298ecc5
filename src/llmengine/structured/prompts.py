"""What is said to the model where its server does not hold it to the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.structured.shape import Shape
    from llmengine.types.request import Message

_SYSTEM_ROLES = frozenset({"system", "developer"})
_NO_ANSWER = "(an empty answer)"  # some servers refuse a message without text


def with_schema(messages: tuple[Message, ...], shape: Shape) -> tuple[Message, ...]:
    """The messages with the schema in the system message.

    It goes into the one that is there, for many chat templates take only one, and only first.
    """
    order = (
        "Answer with one JSON value that fits this JSON schema and with nothing else: "
        f"no prose, no code fence.\n{shape.text}"
    )
    first = messages[0]
    if first["role"] not in _SYSTEM_ROLES:
        return ({"role": "system", "content": order}, *messages)
    said = first.get("content") or ""
    if isinstance(said, str):
        content = f"{said}\n\n{order}" if said else order
        return ({**first, "content": content}, *messages[1:])
    return ({**first, "content": [*said, {"type": "text", "text": order}]}, *messages[1:])


def repair_turn(
    messages: tuple[Message, ...], faulty: str, problem: str, shape: Shape
) -> tuple[Message, ...]:
    """The conversation with the faulty answer in it and the order to mend it."""
    order = (
        f"This does not fit: {problem}.\n"
        f"Respond ONLY in JSON that fits this JSON schema:\n{shape.text}"
    )
    answer = {"role": "assistant", "content": faulty if faulty.strip() else _NO_ANSWER}
    return (*messages, answer, {"role": "user", "content": order})
