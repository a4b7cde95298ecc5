"""Checks of dspy.stream: DSPy programs that stream their fields."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.dspy_driver import DSPyDriver, repeat_question, with_demos
from pytest_llmengine.contract.outcomes import expect, fail, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.dspy_driver import Programs

rule = partial(check, group="dspy.stream")

LINE = "one two three four five six seven eight nine ten"
DEMO_ANSWERS = (
    "red red blue green red blue red blue",
    "a b c d e f g h i j",
    "two four six eight ten",
)


@rule(
    "dspy.stream.listener",
    level=QUIRK,
    tier=EXTENDED,
    source="dspy 3.4.1: dspy/streaming/streaming_listener.py",
    needs={Capability.STREAMING},
    driver=DSPyDriver,
)
def listener(driver: DSPyDriver) -> None:
    """A listener on a field gets it in pieces, which join to what the program says at its end.

    A streamed DSPy field stays empty.
    """
    with driver.programs() as programs:
        parts = programs.run(lambda: asyncio.run(_streamed(programs)))
    if not parts or not isinstance(parts[-1], programs.dspy.Prediction):
        fail(f"the stream ended without a prediction: {quote(parts[-1:])}")
    *pieces, result = parts
    expect(len(pieces) > 1, f"the field {quote(result.answer)} came in {len(pieces)} pieces")
    joined = "".join(piece.chunk for piece in pieces).strip()
    expect(
        joined == result.answer, f"pieces join to {quote(joined)}, not to {quote(result.answer)}"
    )


async def _streamed(programs: Programs) -> list[Any]:
    """The pieces of the field, followed by the prediction."""
    listening = programs.dspy.streaming.StreamListener(signature_field_name="answer")
    repeater = with_demos(
        programs.dspy.Predict("question -> answer"), *({"answer": s} for s in DEMO_ANSWERS)
    )
    program = programs.dspy.streamify(repeater, stream_listeners=[listening])
    return [part async for part in program(question=repeat_question(answer=LINE))]
