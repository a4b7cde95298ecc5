"""Servers that take a schema and do not enforce it never get a wrong answer through."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import StructuredOutputError, TruncatedError, WhitespaceLoopError

LYON = '{"name": "Lyon", "people": 520000}'
TOLD = "Answer with one JSON value"  # in the system message of the strategies after json_schema
REPAIR = "Respond ONLY in JSON"


class City(BaseModel):
    """The output model."""

    name: str
    people: int


def other_schema(body: Any, _: Any) -> Any:
    """JSON is enforced, but not this schema: llama.cpp#24097."""
    if (body.get("response_format") or {}).get("type") == "json_schema":
        body["response_format"] = {"type": "json_object"}
        body["messages"][0]["content"] += " (json)"
    return body


def think_false_disables_format(body: Any, _: Any) -> Any:
    """Ollama#15260, #14850."""
    if body.get("think") is False:
        body.pop("format", None)
    return body


def think_true_disables_format(body: Any, _: Any) -> Any:
    """Ollama#8063 and ollama-python#523."""
    if body.get("think"):
        body.pop("format", None)
    return body


def guided_json_only(body: Any, _: Any) -> Any:
    """A server that drops the fields that it does not know, as vLLM 0.12 and older."""
    body.pop("guided_json", None)
    body.pop("response_format", None)
    return body


OPEN = {
    "guided_json": ({}, guided_json_only),
    "not_enforced": ({}, other_schema),
    "ollama_format": ({"backend": "ollama_api"}, None),
    "ollama_think_false": (
        {"backend": "ollama_api", "reasoning": False},
        think_false_disables_format,
    ),
    "ollama_think_true": (
        {"backend": "ollama_api", "reasoning": True},
        think_true_disables_format,
    ),
}


@pytest.fixture(params=OPEN)
def server(request: Any) -> dict[str, Any]:
    """The settings of an engine and the hook of a server that fails open."""
    config, hook = OPEN[request.param]
    return {**config, "request": hook or (lambda b, _: {k: b[k] for k in b if k != "format"})}


def test_probe_detects_it_and_json_mode_answers(
    mock_servers: Any, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON mode is the first strategy then, and one warning says why."""
    engine = mock_servers.engine(reply=mock_servers.saying(LYON, to=TOLD), **server)

    outputs = engine.generate(["A city.", "Another."], output_model=City)

    assert [o.parsed for o in outputs] == [City(name="Lyon", people=520000)] * 2
    assert [o.schema_strategy for o in outputs] == ["json_object"] * 2
    assert len(mock_servers.requests) == 2
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "does not enforce it" in warning
    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.first, verdict.enforced) == ("json_object", False)


def test_answer_that_fits_nothing_is_never_returned(mock_servers: Any, server: Any) -> None:
    """A model that ignores the format ends in an error with the answer to each strategy."""
    engine = mock_servers.engine(reply=mock_servers.saying("Lyon has 520000 people."), **server)

    (result,) = engine.results("A city.", output_model=City)

    assert result.output is None
    assert type(result.error) is StructuredOutputError
    assert "json_object: the answer is not a valid City" in str(result.error)
    assert "repair: the answer is not a valid City" in str(result.error)
    assert result.error.partial.outputs[0].text == "Lyon has 520000 people."
    assert result.attempts == len(mock_servers.requests) == 2


def test_without_a_probe_nothing_gets_through_either(mock_servers: Any, server: Any) -> None:
    """A configured json_schema is not probed, but every answer is still validated."""
    engine = mock_servers.engine(
        reply=mock_servers.saying("Lyon has 520000 people."), **server, structured="json_schema"
    )

    (result,) = engine.results("A city.", output_model=City)

    assert mock_servers.probes == []
    assert type(result.error) is StructuredOutputError
    assert result.attempts == len(mock_servers.requests) == 3


def test_enforcement_is_known_per_reasoning_mode(mock_servers: Any) -> None:
    """A server that enforces only while it reasons is trusted only then."""
    engine = mock_servers.engine(backend="ollama_api", request=think_false_disables_format)

    thinking = engine.results("A city.", output_model=City, reasoning=True)
    engine.results("A city.", output_model=City, reasoning=False)

    assert thinking[0].output.schema_strategy == "json_schema"
    found = {s.reasoning: v.first for s, v in engine.backend.enforcement.verdicts().items()}
    assert found == {True: "json_schema", False: "json_object"}


@pytest.mark.parametrize("backend", ["openai_compatible", "ollama_api"])
@pytest.mark.parametrize(
    "wrong", ['{"name": "Lyon", "people": "many"}', '{"name": "Lyon"}', "[]", "null", ""]
)
def test_value_that_the_schema_forbids_is_caught(
    mock_servers: Any, backend: str, wrong: str
) -> None:
    """An enforced schema proves nothing: Ollama#8063 lets wrong values through."""
    engine = mock_servers.engine(reply=mock_servers.saying(wrong), backend=backend)

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is StructuredOutputError
    assert "json_schema: the answer is" in str(result.error)


@pytest.mark.parametrize("around", [f"Here it is: {LYON} Enjoy!", f"```json\n{LYON}\n```"])
def test_prose_around_json_counts_only_where_nothing_was_promised(
    mock_servers: Any, around: str
) -> None:
    """A server that enforces the schema sends no prose; with JSON mode and prompts it may."""
    engine = mock_servers.engine(reply=mock_servers.saying(around))

    (result,) = engine.results("A city.", output_model=City)

    assert result.output.schema_strategy == "json_object"
    assert result.output.parsed == City(name="Lyon", people=520000)
    assert result.output.outputs[0].text == around
    assert mock_servers.formats == ["json_schema", "json_object"]


@pytest.mark.parametrize("backend", ["openai_compatible", "ollama_api"])
def test_answer_cut_by_the_token_limit_has_its_own_error(mock_servers: Any, backend: str) -> None:
    """It is not invalid JSON, and would be cut again."""
    engine = mock_servers.engine(
        reply=mock_servers.saying(LYON[:12], finish="length"), backend=backend
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is TruncatedError
    assert "raise max_tokens" in str(result.error)
    assert result.error.partial.outputs[0].text == LYON[:12]
    assert result.attempts == len(mock_servers.requests) == 1


def test_cut_number_is_not_an_answer(mock_servers: Any) -> None:
    """52 may be the beginning of 520000, so it is not taken for the whole."""
    engine = mock_servers.engine(reply=mock_servers.saying("52", finish="length"))

    (result,) = engine.results("How many?", output_model=int)

    assert type(result.error) is TruncatedError


def test_whole_answer_at_the_token_limit_is_one(mock_servers: Any) -> None:
    """If the last brace reached the limit, nothing is missing."""
    engine = mock_servers.engine(reply=mock_servers.saying(LYON, finish="length"))

    (output,) = engine.generate("A city.", output_model=City)

    assert output.parsed == City(name="Lyon", people=520000)


def test_whitespace_loop_is_named(mock_servers: Any) -> None:
    """vLLM#38696: the token limit is not the fault, so the advice is not more tokens."""
    engine = mock_servers.engine(
        reply=mock_servers.saying('{"name":' + " \n" * 60, finish="length")
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is WhitespaceLoopError
    assert "whitespace" in str(result.error)
    assert result.attempts == 1


@pytest.mark.parametrize(
    ("finish", "error", "words"),
    [
        ("stop", StructuredOutputError, "the answer is empty, all that was generated is reasoning"),
        ("length", TruncatedError, "is reasoning (9 characters), up to the token limit"),
    ],
)
def test_answer_that_is_all_reasoning_is_named(
    mock_servers: Any, finish: str, error: type, words: str
) -> None:
    """The error of an empty answer says that the tokens went into reasoning."""

    def thinking(reply: Any, call: Any) -> Any:
        reply["choices"][0]["message"] |= {"content": "", "reasoning": "Let's see"}
        reply["choices"][0]["finish_reason"] = finish
        return reply

    engine = mock_servers.engine(reply=thinking, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is error
    assert words in str(result.error)


def test_tool_call_is_not_a_structured_answer(mock_servers: Any) -> None:
    """No other strategy is tried, and the error keeps the calls."""
    call = {"function": {"name": "look_up", "arguments": "{}"}}
    engine = mock_servers.engine({"tool_calls": [call]}, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert "called tools instead of answering" in str(result.error)
    assert result.error.partial.tool_calls[0].name == "look_up"
    assert result.attempts == 1


@pytest.mark.parametrize("step", ["json_object", "prompt"])
def test_repair_turn_brings_the_answer(mock_servers: Any, step: str) -> None:
    """The next request has the wrong answer and its errors, in the same format."""
    faulty = {"reply": mock_servers.saying(LYON, to=REPAIR)}
    engine = mock_servers.engine("Lyon.", **faulty, structured=step)

    (result,) = engine.results("A city.", output_model=City)

    assert result.output.schema_strategy == "repair"
    assert result.output.parsed == City(name="Lyon", people=520000)
    assert result.attempts == 2
    first, second = mock_servers.requests
    assert first.get("response_format") == second.get("response_format")
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == "Lyon."
    assert "Invalid JSON" in second["messages"][2]["content"]
    assert '"people"' in second["messages"][2]["content"]
