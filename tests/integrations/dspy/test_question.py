"""Keyword arguments of DSPy's language models as requests to an engine, without DSPy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import ConfigError, Engine, EngineConfig, InvalidRequestError, SamplingParams
from llmengine.backends.mock import Mock
from llmengine.integrations.dspy.adapter import (
    DSPyEngine,
    engine_of,
    read_request,
    schema_in_prompt,
)


class Answer(BaseModel):
    """What is wanted."""

    text: str


_SCHEMA = {"type": "object", "title": "Answer"}
_NESTED = {"type": "json_schema", "json_schema": {"name": "Answer", "schema": _SCHEMA}}


@pytest.mark.parametrize(
    ("arguments", "sampling"),
    [
        ({"temperature": 0.5, "max_tokens": 9}, {"temperature": 0.5, "max_tokens": 9}),
        ({"max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"temperature": None, "rollout_id": 3, "cache": True, "model": "m"}, {}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": 2}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": False}, {}),
        ({"n": 2, "stop": ["a"]}, {"n": 2, "stop": ("a",)}),
    ],
    ids=str,
)
def test_sampling_is_read(arguments: dict[str, Any], sampling: dict[str, Any]) -> None:
    """OpenAI's names become ours."""
    assert read_request("Hi", arguments).sampling == SamplingParams(**sampling)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({"response_format": Answer}, {"output_model": Answer}),
        ({"response_format": _NESTED}, {"output_model": _SCHEMA}),
        (
            {"response_format": {"type": "json_schema", "schema": _SCHEMA}},
            {"output_model": _SCHEMA},
        ),
        ({"response_format": {"type": "json_object"}}, {"json_mode": True}),
        ({"response_format": {"type": "text"}}, {}),
        ({"reasoning_effort": "low"}, {"reasoning": "low"}),
        ({"user": "ann", "extra_body": {"a": 1}}, {"extra_body": {"user": "ann", "a": 1}}),
        ({"tools": [], "tool_choice": "auto"}, {"tools": [], "tool_choice": "auto"}),
    ],
    ids=["model", "nested", "flat", "object", "text", "effort", "body", "tools"],
)
def test_options_are_read(arguments: dict[str, Any], options: dict[str, Any]) -> None:
    """A schema in any of its forms is an output model."""
    assert read_request("Hi", arguments).options == options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"temprature": 1}, "extra_body={'temprature': ...}"),
        ({"api_key": "k"}, "'api_key' is not a parameter"),
        ({"response_format": "json"}, "response_format is 'json'"),
        ({"response_format": {"type": "xml"}}, "give a pydantic model"),
        ({"temperature": -1}, "from 0"),
    ],
    ids=["typo", "key", "text", "kind", "range"],
)
def test_what_means_nothing_is_refused(arguments: dict[str, Any], said: str) -> None:
    """The error says what to do instead."""
    with pytest.raises(InvalidRequestError) as caught:
        read_request("Hi", arguments)

    assert said in str(caught.value)


_FIELD = "Ticket: ${ticket}. Respond with a single JSON object. JSON Schema: "
_PROMPT = "Sort it.\n\n---\n\nFollow the following format.\n\nText: ${{text}}\n{}\n\n---\n\n{}"


@pytest.mark.parametrize(
    ("fields", "opening", "schema"),
    [
        (f'{_FIELD}{{"type": "object"}}', "Text: a\nTicket:", {"type": "object"}),
        (f'{_FIELD}```json\n{{"a": 1}}\n```', "Text: a\nTicket:", {"a": 1}),
        (f'{_FIELD}{{"a": 1}}\nNote: ${{note}}', "Text: a\nTicket:", None),
        (f'{_FIELD}{{"a": 1}}', "Text: a\nReasoning: Let's think in order to", None),
        ("Ticket: ${ticket}", "Text: a\nTicket:", None),
        (f"{_FIELD}[1]", "Text: a\nTicket:", None),
        (f'{_FIELD}{{"a": 1}}', "Text: JSON Schema: {}\nOther:", None),
    ],
    ids=["last", "fenced", "another follows", "reasoning", "plain", "a list", "another opens"],
)
def test_the_schema_of_a_prompt_of_2_4_is_that_of_its_last_field(
    fields: str, opening: str, schema: Any
) -> None:
    """There is a schema only if the answer is that field and nothing else."""
    assert schema_in_prompt(_PROMPT.format(fields, opening)) == schema


@pytest.mark.parametrize(
    "fields",
    [{"endpoint": "http://other:1/v1"}, {"model": "n"}, {"reasoning": "low"}],
    ids=["address", "model", "reasoning"],
)
def test_engines_that_answer_otherwise_have_another_identity(fields: dict[str, Any]) -> None:
    """The identity is different for each of these fields, but does not depend on the key."""
    known: dict[str, Any] = {"backend": "vllm_api", "model": "m", "endpoint": "http://host:1/v1"}

    def identity(**changed: Any) -> str:
        return DSPyEngine(EngineConfig.model_validate(known | changed).engine).identity

    assert identity() == "m@host:1"
    assert identity(api_key="secret-key-3", timeout=5) == identity()
    assert identity(**fields) != identity()


class InProcess(Mock):
    """A backend without a server, as vLLM in this process is."""

    in_process = True

    @property
    def endpoint(self) -> str:
        """Always raise an error."""
        raise ConfigError("no address")


def test_an_engine_without_a_server_is_known_by_its_backend() -> None:
    """Neither its identity nor a client with other retries needs an address."""
    engine = Engine(EngineConfig(backend="mock", model="m"), InProcess)

    assert DSPyEngine(engine).identity == "m@mock"
    assert engine_of(engine, num_retries=1).config.max_retries == 1
