"""Mutants of ctx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import body, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest

SIZE = 8192  # of the mock's context


def _cut(name: str, characters: int, longest: float = float("inf")) -> Behaviour:
    """A server that reads so many characters of each prompt that is not longer than `longest`."""
    return Behaviour(
        name,
        request=body(
            lambda sent: [
                message.update(content=message["content"][:characters])
                for message in sent.get("messages") or ()
                if len(message["content"]) <= longest
            ]
        ),
    )


def _says(name: str, message: str) -> Behaviour:
    """A server that says how long its context is nowhere but in this error."""

    def error(sent: JSON, call: ReceivedRequest) -> JSON:
        return (
            sent if isinstance(sent["error"], str) else put(message, "error", "message")(sent, call)
        )

    return Behaviour(name, error=error, disabled_routes=frozenset({"GET /api/ps"}))


mutant("ctx.stated", _says("says nothing", "Your prompt is too long."))
mutant("ctx.boundary", _says("says too much", f"The context length is {SIZE + 100} tokens."))
mutant("ctx.boundary", _cut("cuts what is a little too long", 2 * (SIZE - 8), 3 * SIZE))
