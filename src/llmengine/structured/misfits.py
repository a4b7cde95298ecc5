"""What the steps of one prompt gave before one fitted, or none did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmengine.types.errors import BadRequestError, CallError, StructuredOutputError

if TYPE_CHECKING:
    from llmengine.structured.ladder import Step
    from llmengine.structured.shape import Shape


@dataclass(frozen=True, slots=True)
class Misfit:
    """An answer that did not fit, and why."""

    step: Step
    error: StructuredOutputError

    @property
    def problem(self) -> str:
        """What is wrong with the answer, in words."""
        return self.error.message

    @property
    def text(self) -> str:
        """The first answer's text."""
        outputs = self.error.partial.outputs if self.error.partial else ()
        return outputs[0].text if outputs else ""


def exhausted(misfits: list[Misfit], shape: Shape) -> StructuredOutputError:
    """The error at the end of the ladder: what each step gave; the last output is ``partial``."""
    said = " | ".join(f"{m.step}: {m.problem}" for m in misfits)
    msg = f"no step gave an answer that fits {shape.name}: {said}"
    error = StructuredOutputError(msg, partial=misfits[-1].error.partial)
    error.__cause__ = misfits[-1].error
    return error


def broken_off(error: CallError, step: Step, misfits: list[Misfit], shape: Shape) -> CallError:
    """The error of a step that got no answer, after others whose answers did not fit.

    A request that the server refuses ends the ladder as a misfit does; any other failure stays
    what it is and keeps the last answer.
    """
    if not misfits:
        return error
    if isinstance(error, BadRequestError):
        refused = StructuredOutputError(error.message, partial=misfits[-1].error.partial)
        return exhausted([*misfits, Misfit(step, refused)], shape)
    if error.partial is None:
        error.partial = misfits[-1].error.partial
    before = " | ".join(f"{m.step}: {m.problem}" for m in misfits)
    error.advise(f"before that, {before}")
    return error
