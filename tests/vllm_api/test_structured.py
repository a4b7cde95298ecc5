"""Answers that a real vLLM server constrains."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from llmengine import BadRequestError, SamplingParams

if TYPE_CHECKING:
    from llmengine import Engine


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=99)


def _said(engine: Engine, prompt: str, **constraint: Any) -> str:
    sampling = SamplingParams(temperature=0, max_tokens=40, structured_outputs=constraint)
    (output,) = engine.generate(prompt, sampling)
    assert output.outputs[0].finish_reason == "stop"
    return output.outputs[0].text


def test_an_output_model_is_enforced_by_the_server(live: Engine) -> None:
    """The probe shows that the response_format is enforced, and the answer fits."""
    live.close()
    sampling = SamplingParams(temperature=0, max_tokens=60)
    (output,) = live.generate("Ann is thirty.", sampling, output_model=Person)
    assert isinstance(output.parsed, Person)
    assert output.schema_strategy == "json_schema"
    ((server, verdict),) = live.backend.enforcement.verdicts().items()
    assert (server.field, verdict.enforced) == ("response_format", True)


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        ({"choice": ["Lisbon", "Oslo"]}, "Lisbon|Oslo"),
        ({"regex": r"\d{4}-\d{2}-\d{2}"}, r"\d{4}-\d{2}-\d{2}"),
        ({"grammar": 'root ::= "left" | "right"'}, "left|right"),
        (
            {
                "structural_tag": json.dumps(
                    {
                        "type": "structural_tag",
                        "format": {"type": "const_string", "value": "as told"},
                    }
                )
            },
            "as told",
        ),
    ],
)
def test_a_constraint_is_enforced(live: Engine, constraint: Any, pattern: str) -> None:
    """Without the constraint the model would answer something else."""
    assert re.fullmatch(pattern, _said(live, "What is the capital of France?", **constraint))


def test_a_stream_is_constrained_too(live: Engine) -> None:
    """The deltas join to one of the choices."""
    held = SamplingParams(temperature=0, structured_outputs={"choice": ["Lisbon", "Oslo"]})
    text = "".join(d.text for d in live.stream("What is the capital of France?", held))
    assert text in {"Lisbon", "Oslo"}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_schema_is_enforced(live: Engine, *, as_text: bool) -> None:
    """A schema may be a mapping or a text."""
    schema = {"type": "object", "properties": {"a": {"const": "kept"}}, "required": ["a"]}
    said = _said(live, "Say anything.", json=json.dumps(schema) if as_text else schema)
    assert json.loads(said) == {"a": "kept"}


def test_a_wrong_expression_is_the_servers_to_refuse(live: Engine) -> None:
    """Dialects of expressions differ, so the error is the server's."""
    (result,) = live.results("Hi", SamplingParams(structured_outputs={"regex": "(["}))
    assert isinstance(result.error, BadRequestError)
    assert "regex" in str(result.error)
