"""The same program on every DSPy, with a real model in this process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from llmengine.integrations.dspy import to_lm

if TYPE_CHECKING:
    from llmengine import EngineConfig


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=120)


_EXAMPLE = Path(__file__).parents[3] / "examples" / "dspy_triage.py"


def test_the_example_gives_typed_answers(dspy: Any, embedded: EngineConfig) -> None:
    """Both tickets are instances of the model, whatever the small model answers."""
    assert dspy
    assert embedded

    done = subprocess.run(
        [sys.executable, str(_EXAMPLE)], capture_output=True, text=True, timeout=240, check=False
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"(billing|bug|question) urgent=(True|False) .+", x) for x in lines)


def test_2_4_needs_one_request_for_a_typed_answer(legacy: Any, embedded: EngineConfig) -> None:
    """The schema in the prompt is enforced, so no second request is needed."""
    fields = {"text": (str, legacy.InputField()), "person": (Person, legacy.OutputField())}
    lm = to_lm(embedded, max_tokens=120)

    with legacy.settings.context(lm=lm):
        prediction = legacy.TypedPredictor(legacy.Signature(fields))(text="Ann is thirty.")

    assert isinstance(prediction.person, Person)
    assert len(lm.history) == 1
