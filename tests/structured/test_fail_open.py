"""Servers that take a schema and do not keep to it: each is caught, none gets an answer through."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import StructuredOutputError, TruncatedError, WhitespaceLoopError

LYON = '{"name": "Lyon", "people": 520000}'
TOLD = "Answer with one JSON value"  # in the system message of the steps below json_schema
REPAIR = "Respond ONLY in JSON"


class City(BaseModel):
    """What is asked for."""

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
    """A server that drops all it does not know: vLLM 0.12 and the guided_json of before."""
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


def test_probe_catches_it_and_the_step_below_answers(
    play: Any, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The ladder starts with JSON mode, and one warning says why."""
    engine = play.engine(reply=play.saying(LYON, to=TOLD), **server)

    outputs = engine.generate(["A city.", "Another."], output_model=City)

    assert [o.parsed for o in outputs] == [City(name="Lyon", people=520000)] * 2
    assert [o.schema_strategy for o in outputs] == ["json_object"] * 2
    assert len(play.asked) == 2
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert "does not enforce it" in warning
    (verdict,) = engine.backend.enforcement.verdicts().values()
    assert (verdict.first, verdict.enforced) == ("json_object", False)


def test_answer_that_fits_nothing_is_never_returned(play: Any, server: Any) -> None:
    """A model that says what it likes ends in an error that says what each step gave."""
    engine = play.engine(reply=play.saying("Lyon has 520000 people."), **server)

    (result,) = engine.results("A city.", output_model=City)

    assert result.output is None
    assert type(result.error) is StructuredOutputError
    assert "json_object: the answer is not a valid City" in str(result.error)
    assert "repair: the answer is not a valid City" in str(result.error)
    assert result.error.partial.outputs[0].text == "Lyon has 520000 people."
    assert result.attempts == len(play.asked) == 2


def test_without_a_probe_nothing_gets_through_either(play: Any, server: Any) -> None:
    """A configured json_schema is believed, but every answer is validated all the same."""
    engine = play.engine(
        reply=play.saying("Lyon has 520000 people."), **server, structured="json_schema"
    )

    (result,) = engine.results("A city.", output_model=City)

    assert play.probes == []
    assert type(result.error) is StructuredOutputError
    assert result.attempts == len(play.asked) == 3


def test_verdict_is_one_a_reasoning_mode(play: Any) -> None:
    """A server that enforces only while it thinks is trusted only while it thinks."""
    engine = play.engine(backend="ollama_api", request=think_false_disables_format)

    thinking = engine.results("A city.", output_model=City, reasoning=True)
    engine.results("A city.", output_model=City, reasoning=False)

    assert thinking[0].output.schema_strategy == "json_schema"
    found = {s.reasoning: v.first for s, v in engine.backend.enforcement.verdicts().items()}
    assert found == {True: "json_schema", False: "json_object"}


@pytest.mark.parametrize("backend", ["openai_compatible", "ollama_api"])
@pytest.mark.parametrize(
    "wrong", ['{"name": "Lyon", "people": "many"}', '{"name": "Lyon"}', "[]", "null", ""]
)
def test_value_that_the_schema_forbids_is_caught(play: Any, backend: str, wrong: str) -> None:
    """An enforced schema is no proof: Ollama#8063 lets values through that do not fit."""
    engine = play.engine(reply=play.saying(wrong), backend=backend)

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is StructuredOutputError
    assert "json_schema: the answer is" in str(result.error)


@pytest.mark.parametrize("around", [f"Here it is: {LYON} Enjoy!", f"```json\n{LYON}\n```"])
def test_prose_around_json_counts_only_where_nothing_was_promised(play: Any, around: str) -> None:
    """A server that promised the schema gave something else; JSON mode and prompts may chat."""
    engine = play.engine(reply=play.saying(around))

    (result,) = engine.results("A city.", output_model=City)

    assert result.output.schema_strategy == "json_object"
    assert result.output.parsed == City(name="Lyon", people=520000)
    assert result.output.outputs[0].text == around
    assert play.formats == ["json_schema", "json_object"]


@pytest.mark.parametrize("backend", ["openai_compatible", "ollama_api"])
def test_answer_cut_by_the_token_limit_is_told_apart(play: Any, backend: str) -> None:
    """It is no invalid JSON, and asking again would cut it again."""
    engine = play.engine(reply=play.saying(LYON[:12], finish="length"), backend=backend)

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is TruncatedError
    assert "raise max_tokens" in str(result.error)
    assert result.error.partial.outputs[0].text == LYON[:12]
    assert result.attempts == len(play.asked) == 1


def test_number_that_was_cut_is_no_answer(play: Any) -> None:
    """52 may be the beginning of 520000, so it is not taken for the whole."""
    engine = play.engine(reply=play.saying("52", finish="length"))

    (result,) = engine.results("How many?", output_model=int)

    assert type(result.error) is TruncatedError


def test_whole_answer_at_the_token_limit_is_one(play: Any) -> None:
    """A limit that was reached with the last brace cut nothing."""
    engine = play.engine(reply=play.saying(LYON, finish="length"))

    (output,) = engine.generate("A city.", output_model=City)

    assert output.parsed == City(name="Lyon", people=520000)


def test_whitespace_loop_is_named(play: Any) -> None:
    """vLLM#38696: the token limit is not what is wrong, so more tokens are not the advice."""
    engine = play.engine(reply=play.saying('{"name":' + " \n" * 60, finish="length"))

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
    play: Any, finish: str, error: type, words: str
) -> None:
    """An empty answer with full reasoning says where the tokens went."""

    def thinking(reply: Any, call: Any) -> Any:
        reply["choices"][0]["message"] |= {"content": "", "reasoning": "Let's see"}
        reply["choices"][0]["finish_reason"] = finish
        return reply

    engine = play.engine(reply=thinking, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is error
    assert words in str(result.error)


def test_tool_call_is_no_structured_answer(play: Any) -> None:
    """It is not climbed down from, and the calls are kept."""
    call = {"function": {"name": "look_up", "arguments": "{}"}}
    engine = play.engine({"tool_calls": [call]}, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert "called tools instead of answering" in str(result.error)
    assert result.error.partial.tool_calls[0].name == "look_up"
    assert result.attempts == 1


@pytest.mark.parametrize("step", ["json_object", "prompt"])
def test_repair_turn_brings_the_answer(play: Any, step: str) -> None:
    """The faulty answer and what is wrong with it go back, in the same format."""
    faulty = {"reply": play.saying(LYON, to=REPAIR)}
    engine = play.engine("Lyon.", **faulty, structured=step)

    (result,) = engine.results("A city.", output_model=City)

    assert result.output.schema_strategy == "repair"
    assert result.output.parsed == City(name="Lyon", people=520000)
    assert result.attempts == 2
    first, second = play.asked
    assert first.get("response_format") == second.get("response_format")
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == "Lyon."
    assert "Invalid JSON" in second["messages"][2]["content"]
    assert '"people"' in second["messages"][2]["content"]
