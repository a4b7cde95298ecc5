"""Answers held to a choice, an expression or a grammar: by the server, or not at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import InvalidRequestError, SamplingParams, StructuredOutputError

CHOICE = SamplingParams(structured_outputs={"choice": ["yes", "no"]})


class City(BaseModel):
    """An output model."""

    name: str


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"regex": "[a-f]{4}"}, "[a-f]{4}"),
        ({"grammar": 'root ::= "left" | "right"'}, "left|right"),
        ({"json": {"enum": ["a"]}}, '"a"'),
    ],
)
def test_the_text_is_the_answer_as_it_came(play: Any, constraint: Any, pattern: str) -> None:
    """It is sent under today's name, and no step of the ladder takes it for JSON."""
    engine = play.engine(backend="vllm_api")
    (output,) = engine.generate("Say.", SamplingParams(structured_outputs=constraint))
    assert re.fullmatch(pattern, output.outputs[0].text)
    assert (output.parsed, output.schema_strategy) == (None, None)
    (sent,) = play.asked
    assert sent["structured_outputs"] == constraint
    assert not any(name.startswith("guided_") for name in sent)


def test_one_probe_is_enough(play: Any) -> None:
    """A server that enforces the field is asked once, and streams rely on the same verdict."""
    engine = play.engine(backend="vllm_api")
    engine.generate(["A?"] * 20, CHOICE)
    text = "".join(d.text for d in engine.stream("A?", CHOICE))
    assert text in {"yes", "no"}
    assert len(play.probes) == 1
    ((server, verdict),) = engine.backend.enforcement.verdicts().items()
    assert (server.field, verdict.enforced) == ("structured_outputs", True)


def test_each_field_has_a_verdict_of_its_own(play: Any) -> None:
    """A server may know OpenAI's field and not vLLM's."""
    engine = play.engine(backend="vllm_api", request=play.without("structured_outputs"))
    assert engine.generate("A city.", output_model=City)[0].schema_strategy == "json_schema"
    (result,) = engine.results("A?", CHOICE)
    assert isinstance(result.error, StructuredOutputError)
    assert len(play.probes) == 2


@pytest.mark.parametrize("backend", ["vllm_api", "openai_compatible"])
def test_a_server_that_ignores_the_field_is_found_out(play: Any, backend: str) -> None:
    """An answer that nobody held to anything is never returned, and costs nothing."""
    engine = play.engine(backend=backend, request=play.without("structured_outputs"))
    (result,) = engine.results("A?", CHOICE)
    assert isinstance(result.error, StructuredOutputError)
    assert "does not enforce it" in str(result.error)
    with pytest.raises(StructuredOutputError, match="does not enforce it"):
        next(engine.stream("A?", CHOICE))
    assert play.asked == []


def test_who_names_a_step_knows_the_server(play: Any) -> None:
    """With a configured step nothing is probed."""
    play.engine(backend="vllm_api", structured="json_schema").generate("A?", CHOICE)
    assert play.probes == []


@pytest.mark.parametrize("options", [{"output_model": City}, {"json_mode": True}])
def test_two_shapes_at_once_are_refused(play: Any, options: dict[str, Any]) -> None:
    """A model and a constraint contradict each other, so nothing is sent."""
    (result,) = play.engine(backend="vllm_api").results("A?", CHOICE, **options)
    assert isinstance(result.error, InvalidRequestError)
    assert "beside an output_model or json_mode" in str(result.error)
    assert play.server.calls == []


@pytest.mark.parametrize("name", ["guided_json", "guided_choice"])
def test_names_that_vllm_ignores_are_refused(play: Any, name: str) -> None:
    """The old names would get a 200 and an unconstrained answer."""
    (result,) = play.engine(backend="vllm_api").results("A?", extra_body={name: ["yes"]})
    assert isinstance(result.error, InvalidRequestError)
    assert "structured_outputs" in str(result.error)
    assert play.server.calls == []
