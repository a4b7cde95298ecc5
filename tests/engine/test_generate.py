"""generate and results: order, options and prompts that fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import (
    BadRequestError,
    BatchError,
    InvalidRequestError,
    SamplingParams,
    StructuredOutputError,
    TruncatedError,
)


@pytest.fixture
def echo(engine_for: Any, chat: Any) -> Any:
    """An engine whose server repeats the last message; "bad" gets a 400."""

    def handler(request: Any, connection: Any) -> None:
        text = request.json["messages"][-1]["content"]
        if text == "bad":
            error = {"message": "no", "type": "invalid_request_error", "param": None, "code": None}
            connection.reply({"error": error}, status=400)
        else:
            connection.pause(0.02 if text.endswith("0") else 0)
            connection.reply(chat(text.upper()))

    return engine_for(handler)


def test_outputs_come_in_the_order_of_the_prompts(echo: Any) -> None:
    """Slow prompts do not change places with quick ones."""
    engine, _ = echo

    outputs = engine.generate([f"prompt {i}" for i in range(50)])

    assert [o.outputs[0].text for o in outputs] == [f"PROMPT {i}" for i in range(50)]
    assert [o.prompt for o in outputs] == [f"prompt {i}" for i in range(50)]


def test_output_has_the_shape_of_vllms(echo: Any) -> None:
    """It has the field names that callers of vLLM's ``LLM`` read."""
    engine, _ = echo

    (output,) = engine.generate(["hello"])

    assert output.request_id == "chatcmpl-1"
    assert output.finished is True
    assert output.outputs[0].index == 0
    assert output.outputs[0].finish_reason == "stop"
    assert output.outputs[0].reasoning_content is None
    assert output.usage.total_tokens == 5
    assert output.model == "m"


@pytest.mark.parametrize(
    "prompt",
    ["hello", [{"role": "user", "content": "hello"}], [[{"role": "user", "content": "hello"}]]],
)
def test_one_prompt_needs_no_list(echo: Any, prompt: Any) -> None:
    """A string or one conversation is one prompt."""
    engine, server = echo

    (output,) = engine.generate(prompt)

    assert output.outputs[0].text == "HELLO"
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "hello"}]


def test_sampling_params_go_over_the_configurations(engine_for: Any, chat: Any) -> None:
    """A value of the call wins; what it leaves open comes from the configuration."""
    engine, server = engine_for(
        lambda _, c: c.reply(chat()), sampling={"temperature": 0.5, "max_tokens": 9}
    )

    engine.generate("hi", SamplingParams(temperature=0))

    assert server.requests[0].json["temperature"] == 0
    assert server.requests[0].json["max_tokens"] == 9


def test_sampling_params_per_prompt(echo: Any) -> None:
    """A list pairs with the prompts."""
    engine, server = echo

    engine.generate(["a", "b"], [SamplingParams(seed=1), SamplingParams(seed=2)])

    seeds = {r.json["messages"][0]["content"]: r.json["seed"] for r in server.requests}
    assert seeds == {"a": 1, "b": 2}


def test_sampling_params_of_another_length_are_refused(echo: Any) -> None:
    """A list of another length is an error before any request is sent."""
    engine, server = echo

    with pytest.raises(InvalidRequestError, match="1 sampling_params for 2 prompts"):
        engine.generate(["a", "b"], [SamplingParams()])
    assert server.requests == []


def test_object_with_vllms_attributes_is_sampling_params(echo: Any) -> None:
    """An object shaped like vllm.SamplingParams is read by its attributes."""

    @dataclass
    class Foreign:
        temperature: float = 0.0
        max_tokens: int = 16
        n: int = 1

    engine, server = echo

    engine.generate("hi", Foreign())

    assert server.requests[0].json["max_tokens"] == 16


def test_failed_prompt_does_not_lose_the_others(echo: Any) -> None:
    """BatchError says which prompt failed and carries every result."""
    engine, _ = echo

    with pytest.raises(BatchError, match=r"1 of 3 prompts failed; the first is prompt 1") as caught:
        engine.generate(["a", "bad", "c"])

    results = caught.value.results
    assert [r.ok for r in results] == [True, False, True]
    assert results[2].unwrap().outputs[0].text == "C"
    assert isinstance(results[1].error, BadRequestError)


def test_results_do_not_raise(echo: Any) -> None:
    """Every prompt has its result, and ``unwrap`` raises its error."""
    engine, _ = echo

    good, bad = engine.results(["a", "bad"])

    assert good.ok
    assert (good.attempts, bad.attempts) == (1, 1)
    with pytest.raises(BadRequestError):
        bad.unwrap()


def test_malformed_prompt_is_its_own_result(echo: Any) -> None:
    """A prompt that cannot be sent fails alone, and the message has its index."""
    engine, server = echo

    good, bad = engine.results(["a", 7])

    assert good.ok
    assert isinstance(bad.error, InvalidRequestError)
    assert "prompt 1 is a int" in str(bad.error)
    assert bad.attempts == 0
    assert len(server.requests) == 1


def test_no_prompts_no_results(echo: Any) -> None:
    """An empty batch is an empty list."""
    engine, server = echo

    assert engine.generate([]) == []
    assert server.requests == []


class City(BaseModel):
    """The model of the structured tests."""

    name: str
    people: int


def test_output_model_gives_a_parsed_answer(engine_for: Any, chat: Any) -> None:
    """The schema is sent, the answer is validated, and the output names the strategy."""
    engine, server = engine_for(
        lambda _, c: c.reply(chat('{"name": "Lyon", "people": 520000}')), structured="json_schema"
    )

    (output,) = engine.generate("A city.", output_model=City)

    assert output.parsed == City(name="Lyon", people=520000)
    assert output.schema_strategy == "json_schema"
    sent = server.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"]["required"] == ["name", "people"]


@pytest.mark.parametrize(
    ("text", "finish", "error", "words"),
    [
        (
            '{"name": "Lyon"}',
            "stop",
            StructuredOutputError,
            "not a valid City: people: Field required",
        ),
        ("Lyon is a city.", "stop", StructuredOutputError, "Invalid JSON"),
        ('{"name": "Ly', "length", TruncatedError, "cut by the token limit"),
    ],
)
def test_answer_that_does_not_fit_is_never_returned(
    engine_for: Any, chat: Any, text: str, finish: str, error: type, words: str
) -> None:
    """The error says what is wrong and keeps the text and the usage."""
    engine, server = engine_for(
        lambda _, c: c.reply(chat(text, finish_reason=finish)), structured="json_schema"
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is error
    assert words in str(result.error)
    assert result.error.partial.outputs[0].text == text
    assert result.usage.total_tokens == 5 * len(server.requests)


def test_call_of_a_pipeline_step_works_unchanged(
    engine_for: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The call that Chainette makes works, and the log names its step."""
    caplog.set_level("INFO", "llmengine")
    engine, _ = engine_for(
        lambda _, c: c.reply(chat('{"name": "Lyon", "people": 1}')), structured="json_schema"
    )

    raw = engine.generate(
        prompts=["A city."],
        output_model=City,
        sampling_params=SamplingParams(temperature=0),
        step_id="extract",
    )[0]

    assert isinstance(raw.outputs[0].text, str)
    assert raw.outputs[0].reasoning_content is None
    assert "(extract): 1 of 1 prompts answered, 1 attempts, 5 tokens" in caplog.text


def test_unknown_option_is_refused(echo: Any) -> None:
    """A misspelt option is an error."""
    engine, _ = echo

    with pytest.raises(TypeError, match="output_modle"):
        engine.generate("hi", output_modle=City)


def test_json_schema_is_sent_and_not_validated(echo: Any) -> None:
    """The server gets the schema; an answer that does not fit it is still an answer."""
    engine, server = echo
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}

    (output,) = engine.generate(["no json"], json_schema=schema)

    sent = server.requests[0].json["response_format"]
    assert sent["json_schema"]["schema"] == schema
    assert output.outputs[0].text == "NO JSON"
    assert output.parsed is None
