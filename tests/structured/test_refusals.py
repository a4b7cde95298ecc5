"""Servers that refuse a response_format, or crash at it: one step down, and remembered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from llmengine import (
    APIConnectionError,
    BadRequestError,
    ContextLengthError,
    InternalServerError,
    SamplingParams,
    StructuredOutputError,
)

LYON = '{"name": "Lyon", "people": 520000}'
TOLD = "Answer with one JSON value"


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


def test_probe_finds_the_refusal(play: Any, caplog: Any) -> None:
    """Every prompt then starts a step below, and the warning has the server's words."""
    engine = play.engine(request=play.refusing("json_schema"), reply=play.saying(LYON, to=TOLD))

    outputs = engine.generate(["One.", "Two."], output_model=City)

    assert [o.schema_strategy for o in outputs] == ["json_object"] * 2
    assert play.formats == ["json_object", "json_object"]
    assert len(play.probes) == 2  # with the schema, and without to see what was refused
    assert "refuses JSON schemas" in caplog.text
    assert "not supported here" in caplog.text


def test_each_refused_step_is_tried_once(play: Any, caplog: Any) -> None:
    """LM Studio answers json_object with a 400 too; the prompt alone is left."""
    engine = play.engine(
        request=play.refusing("json_schema", "json_object"),
        reply=play.saying(LYON, to=TOLD),
        structured="json_schema",
    )

    first = engine.results("One.", output_model=City)[0]
    second = engine.results("Two.", output_model=City)[0]

    assert first.output.schema_strategy == second.output.schema_strategy == "prompt"
    assert play.formats == ["json_schema", "json_object", None, None]
    assert (first.attempts, second.attempts) == (3, 1)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 2


def test_refusal_of_one_schema_is_not_of_all(play: Any) -> None:
    """A server may lack a keyword that one model needs and take the next model's schema."""

    class Other(BaseModel):
        answer: str

    def picky(body: Any, _: Any) -> Any:
        if "people" in str(body.get("response_format")):
            body["response_format"] = {"type": "not supported here"}
        return body

    engine = play.engine(request=picky, reply=play.saying(LYON, to=TOLD))

    engine.generate("One.", output_model=City)
    (output,) = engine.generate("Two.", output_model=Other)
    engine.generate("Three.", output_model=City)

    assert output.schema_strategy == "json_schema"
    assert play.formats == ["json_schema", "json_object", "json_schema", "json_object"]


def test_bad_request_for_another_reason_is_not_a_refusal(play: Any) -> None:
    """What is refused on every step is the caller's, and nothing is learnt from it."""
    engine = play.engine(structured="json_schema")

    (result,) = engine.results("hi", SamplingParams(temperature=9.0), output_model=City)
    (after,) = engine.results("hi", output_model=City)

    assert type(result.error) is BadRequestError
    assert "temperature" in str(result.error)
    assert result.attempts == len(play.formats) - 1 == 3
    assert after.output.schema_strategy == "json_schema"


def test_prompt_that_is_too_long_is_not_a_refusal(play: Any) -> None:
    """The schema in the prompt would only make it longer."""
    engine = play.engine(structured="json_schema")

    (result,) = engine.results("word " * 9000, output_model=City)

    assert type(result.error) is ContextLengthError
    assert result.attempts == len(play.asked) == 1


def test_refused_repair_ends_the_ladder(play: Any) -> None:
    """The misfits are told, and the refusal with them."""

    def hook(body: Any, _: Any) -> Any:
        if len(body["messages"]) > 2:
            body["messages"] = "too many"
        return body

    engine = play.engine(request=hook, reply=play.saying("Lyon."), structured="prompt")

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is StructuredOutputError
    assert "prompt: the answer is not a valid City" in str(result.error)
    assert "repair: HTTP 400" in str(result.error)
    assert result.error.partial.outputs[0].text == "Lyon."


def test_failure_on_the_way_keeps_what_was_paid_for(engine_for: Any, chat: Any) -> None:
    """A server that dies after the first answer is its own error, with that answer."""

    def handler(request: Any, connection: Any) -> None:
        if "json_schema" in str(request.json):
            connection.reply(chat("Lyon."))
        else:
            connection.reply({"error": {"message": "gone"}}, status=501)

    engine, server = engine_for(handler, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is InternalServerError
    assert "before that, json_schema: the answer is not a valid City" in str(result.error)
    assert result.error.partial.outputs[0].text == "Lyon."
    assert result.attempts == result.error.attempts == len(server.requests) == 2
    assert result.usage.total_tokens == 5


def test_system_message_that_is_there_is_kept(play: Any) -> None:
    """The schema joins it, whether it is text or parts, for many templates take only one."""
    engine = play.engine(reply=play.saying(LYON), structured="json_object")
    parts = [{"type": "text", "text": "Be brief."}]
    user = {"role": "user", "content": "A city."}

    engine.generate(
        [[{"role": "system", "content": said}, user] for said in ("Be brief.", parts)],
        output_model=City,
    )

    for body in play.asked:
        assert [m["role"] for m in body["messages"]] == ["system", "user"]
        said = str(body["messages"][0]["content"])
        assert said.index("Be brief.") < said.index(TOLD) < said.index("people")


def test_attempts_and_usage_of_all_steps_are_counted(engine_for: Any, chat: Any) -> None:
    """Retries and misfits cost, and the result says so."""
    replies = iter([503, "no", "no", 503, LYON])

    def handler(_: Any, connection: Any) -> None:
        said = next(replies)
        if said == 503:
            connection.reply({"error": {"message": "busy"}}, status=503)
        else:
            connection.reply(chat(said))

    engine, server = engine_for(handler, structured="json_schema")

    (result,) = engine.results("A city.", output_model=City)

    assert result.output.schema_strategy == "repair"
    assert result.attempts == len(server.requests) == 5
    assert result.usage.total_tokens == 15


def test_server_that_is_not_there_gives_no_verdict(engine_for: Any) -> None:
    """The prompt fails as it would without a probe, and the next one probes again."""
    engine, _ = engine_for(lambda _, c: c.reply({}))
    nowhere = engine.config.model_copy(update={"endpoint": "http://127.0.0.1:9", "max_retries": 0})

    (result,) = nowhere.engine.results("A city.", output_model=City)

    assert type(result.error) is APIConnectionError
    assert result.attempts == 1
    assert nowhere.engine.backend.enforcement.verdicts() == {}


def _crashes_at(schema: str, text: str, chat: Any) -> Any:
    """What llama-cpp-python does: a 500 for a format that it does not have, a 200 for others."""

    def handler(request: Any, connection: Any) -> None:
        if schema in str(request.json.get("response_format")):
            connection.reply({"error": {"message": "Unsupported response_format"}}, status=500)
        else:
            connection.reply(chat(text))

    return handler


def test_server_that_crashes_at_schemas_is_found_by_the_probe(
    engine_for: Any, chat: Any, caplog: Any
) -> None:
    """A 500 with a schema and a 200 without it is a step down; a batch pays for it once."""
    engine, server = engine_for(_crashes_at("json_schema", LYON, chat), retry_wait=0.001)

    outputs = engine.generate(["A city."] * 5, output_model=City)

    assert {o.schema_strategy for o in outputs} == {"json_object"}
    assert [v.first for v in engine.backend.enforcement.verdicts().values()] == ["json_object"]
    assert "it fails at JSON schemas" in caplog.text
    # The probe, the same without a schema, the probe again with its retries, and the prompts.
    assert len(server.requests) == 1 + 1 + 3 + 5


def test_server_that_crashes_at_one_schema_is_remembered(engine_for: Any, chat: Any) -> None:
    """Once it has failed in every attempt; the next prompt does not ask for the schema."""
    engine, server = engine_for(
        _crashes_at("json_schema", LYON, chat),
        structured="json_schema",
        max_retries=1,
        retry_wait=0.001,
    )

    (first,) = engine.results("A city.", output_model=City)
    (second,) = engine.results("A city.", output_model=City)

    assert [first.attempts, second.attempts] == [3, 1]
    assert first.unwrap().schema_strategy == "json_object"
    assert len(server.requests) == 4


def test_one_crash_is_no_proof(engine_for: Any, chat: Any) -> None:
    """Without retries the step below answers, and the next prompt tries the schema again."""
    engine, _ = engine_for(
        _crashes_at("json_schema", LYON, chat), structured="json_schema", max_retries=0
    )

    results = [engine.results("A city.", output_model=City)[0] for _ in range(2)]

    assert [r.attempts for r in results] == [2, 2]
    assert all(r.ok for r in results)


def test_server_that_crashes_at_everything_is_asked_once_more(engine_for: Any) -> None:
    """Then it is the server and not the format; the first failure is the error."""

    def handler(request: Any, connection: Any) -> None:
        kind = str((request.json.get("response_format") or {}).get("type"))
        connection.reply({"error": {"message": f"out of memory at {kind}"}}, status=500)

    engine, server = engine_for(handler, structured="json_schema", max_retries=1, retry_wait=0.001)

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is InternalServerError
    assert "out of memory at json_schema" in str(result.error)
    assert result.attempts == len(server.requests) == 3


@pytest.mark.parametrize("status", [501, 502, 503, 504])
def test_busy_gateway_says_nothing_of_the_format(engine_for: Any, status: int) -> None:
    """No step down, and nothing learnt."""
    engine, server = engine_for(
        lambda _, c: c.reply({"error": {"message": "busy"}}, status=status),
        structured="json_schema",
        max_retries=0,
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is InternalServerError
    assert len(server.requests) == 1


def test_stream_of_a_server_that_crashes_at_schemas(engine_for: Any, chunk: Any) -> None:
    """A stream takes the same step down, since nothing was delivered yet."""

    def handler(request: Any, connection: Any) -> None:
        if "json_schema" in str(request.json.get("response_format")):
            connection.reply({"error": {"message": "Unsupported"}}, status=500)
            return
        connection.start_sse()
        connection.sse(chunk(LYON, finish="stop"), ...)
        connection.chunk(b"")

    engine, _ = engine_for(handler, structured="json_schema", max_retries=0)

    deltas = list(engine.stream("A city.", output_model=City))

    assert deltas[-1].parsed == City(name="Lyon", people=520000)
