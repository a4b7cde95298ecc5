"""Answers that a server must constrain to a choice, an expression or a grammar."""

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
def test_the_text_is_the_answer_as_it_came(
    mock_servers: Any, constraint: Any, pattern: str
) -> None:
    """The constraint has today's name, and the text is not taken for JSON."""
    engine = mock_servers.engine(backend="vllm_api")
    (output,) = engine.generate("Say.", SamplingParams(structured_outputs=constraint))
    assert re.fullmatch(pattern, output.outputs[0].text)
    assert (output.parsed, output.schema_strategy) == (None, None)
    (sent,) = mock_servers.requests
    assert sent["structured_outputs"] == constraint
    assert not any(name.startswith("guided_") for name in sent)


def test_one_probe_is_enough(mock_servers: Any) -> None:
    """A server that enforces the field is probed once, also for streams."""
    engine = mock_servers.engine(backend="vllm_api")
    engine.generate(["A?"] * 20, CHOICE)
    text = "".join(d.text for d in engine.stream("A?", CHOICE))
    assert text in {"yes", "no"}
    assert len(mock_servers.probes) == 1
    ((server, verdict),) = engine.backend.enforcement.verdicts().items()
    assert (server.field, verdict.enforced) == ("structured_outputs", True)


def test_each_field_is_probed_by_itself(mock_servers: Any) -> None:
    """A server may know OpenAI's field and not vLLM's."""
    engine = mock_servers.engine(
        backend="vllm_api", request=mock_servers.without("structured_outputs")
    )
    assert engine.generate("A city.", output_model=City)[0].schema_strategy == "json_schema"
    (result,) = engine.results("A?", CHOICE)
    assert isinstance(result.error, StructuredOutputError)
    assert len(mock_servers.probes) == 2


@pytest.mark.parametrize("backend", ["vllm_api", "openai_compatible"])
def test_server_that_ignores_the_field_is_detected(mock_servers: Any, backend: str) -> None:
    """An unconstrained answer is never returned, and costs nothing."""
    engine = mock_servers.engine(
        backend=backend, request=mock_servers.without("structured_outputs")
    )
    (result,) = engine.results("A?", CHOICE)
    assert isinstance(result.error, StructuredOutputError)
    assert "does not enforce it" in str(result.error)
    with pytest.raises(StructuredOutputError, match="does not enforce it"):
        next(engine.stream("A?", CHOICE))
    assert mock_servers.requests == []


def test_configured_strategy_needs_no_probe(mock_servers: Any) -> None:
    """With a configured strategy nothing is probed."""
    mock_servers.engine(backend="vllm_api", structured="json_schema").generate("A?", CHOICE)
    assert mock_servers.probes == []


@pytest.mark.parametrize("options", [{"output_model": City}, {"json_mode": True}])
def test_two_shapes_at_once_are_refused(mock_servers: Any, options: dict[str, Any]) -> None:
    """A model and a constraint contradict each other, so nothing is sent."""
    (result,) = mock_servers.engine(backend="vllm_api").results("A?", CHOICE, **options)
    assert isinstance(result.error, InvalidRequestError)
    assert "also has an output_model or json_mode" in str(result.error)
    assert mock_servers.server.calls == []


@pytest.mark.parametrize("name", ["guided_json", "guided_choice"])
def test_names_that_vllm_ignores_are_refused(mock_servers: Any, name: str) -> None:
    """The old names would get a 200 and an unconstrained answer."""
    (result,) = mock_servers.engine(backend="vllm_api").results("A?", extra_body={name: ["yes"]})
    assert isinstance(result.error, InvalidRequestError)
    assert "structured_outputs" in str(result.error)
    assert mock_servers.server.calls == []
