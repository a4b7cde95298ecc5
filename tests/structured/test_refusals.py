"""A server that refuses a response_format or crashes at it gets the next strategy from then on."""

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
    """The output model."""

    name: str
    people: int


def test_probe_finds_the_refusal(mock_servers: Any, caplog: Any) -> None:
    """Every prompt then starts with the next strategy, and the warning quotes the server."""
    engine = mock_servers.engine(
        request=mock_servers.refusing("json_schema"), reply=mock_servers.saying(LYON, to=TOLD)
    )

    outputs = engine.generate(["One.", "Two."], output_model=City)

    assert [o.schema_strategy for o in outputs] == ["json_object"] * 2
    assert mock_servers.formats == ["json_object", "json_object"]
    assert len(mock_servers.probes) == 2  # with the schema, and without it to see what was refused
    assert "refuses JSON schemas" in caplog.text
    assert "not supported here" in caplog.text


def test_each_refused_step_is_tried_once(mock_servers: Any, caplog: Any) -> None:
    """LM Studio answers json_object with a 400 too, so only the prompt is left."""
    engine = mock_servers.engine(
        request=mock_servers.refusing("json_schema", "json_object"),
        reply=mock_servers.saying(LYON, to=TOLD),
        structured="json_schema",
    )

    first = engine.results("One.", output_model=City)[0]
    second = engine.results("Two.", output_model=City)[0]

    assert first.output.schema_strategy == second.output.schema_strategy == "prompt"
    assert mock_servers.formats == ["json_schema", "json_object", None, None]
    assert (first.attempts, second.attempts) == (3, 1)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 2


def test_refusal_of_one_schema_is_not_of_all(mock_servers: Any) -> None:
    """A server may lack a keyword of one model and take the schema of the next."""

    class Other(BaseModel):
        answer: str

    def picky(body: Any, _: Any) -> Any:
        if "people" in str(body.get("response_format")):
            body["response_format"] = {"type": "not supported here"}
        return body

    engine = mock_servers.engine(request=picky, reply=mock_servers.saying(LYON, to=TOLD))

    engine.generate("One.", output_model=City)
    (output,) = engine.generate("Two.", output_model=Other)
    engine.generate("Three.", output_model=City)

    assert output.schema_strategy == "json_schema"
    assert mock_servers.formats == ["json_schema", "json_object", "json_schema", "json_object"]


def test_bad_request_for_another_reason_is_not_a_refusal(mock_servers: Any) -> None:
    """If every strategy is refused, the request is wrong, and nothing is remembered."""
    engine = mock_servers.engine(structured="json_schema")

    (result,) = engine.results("hi", SamplingParams(temperature=9.0), output_model=City)
    (after,) = engine.results("hi", output_model=City)

    assert type(result.error) is BadRequestError
    assert "temperature" in str(result.error)
    assert result.attempts == len(mock_servers.formats) - 1 == 3
    assert after.output.schema_strategy == "json_schema"


def test_prompt_that_is_too_long_is_not_a_refusal(mock_servers: Any) -> None:
    """The schema in the prompt would only make it longer."""
    engine = mock_servers.engine(structured="json_schema")

    (result,) = engine.results("word " * 9000, output_model=City)

    assert type(result.error) is ContextLengthError
    assert result.attempts == len(mock_servers.requests) == 1


def test_refused_repair_ends_the_ladder(mock_servers: Any) -> None:
    """The error has the answers that did not fit, and the refusal."""

    def hook(body: Any, _: Any) -> Any:
        if len(body["messages"]) > 2:
            body["messages"] = "too many"
        return body

    engine = mock_servers.engine(
        request=hook, reply=mock_servers.saying("Lyon."), structured="prompt"
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is StructuredOutputError
    assert "prompt: the answer is not a valid City" in str(result.error)
    assert "repair: HTTP 400" in str(result.error)
    assert result.error.partial.outputs[0].text == "Lyon."


def test_failure_on_the_way_keeps_what_was_paid_for(engine_for: Any, chat: Any) -> None:
    """If the server fails after the first answer, the error keeps that answer."""

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


def test_system_message_that_is_there_is_kept(mock_servers: Any) -> None:
    """The schema is added to it, as text or parts, since many templates take only one."""
    engine = mock_servers.engine(reply=mock_servers.saying(LYON), structured="json_object")
    parts = [{"type": "text", "text": "Be brief."}]
    user = {"role": "user", "content": "A city."}

    engine.generate(
        [[{"role": "system", "content": said}, user] for said in ("Be brief.", parts)],
        output_model=City,
    )

    for body in mock_servers.requests:
        assert [m["role"] for m in body["messages"]] == ["system", "user"]
        said = str(body["messages"][0]["content"])
        assert said.index("Be brief.") < said.index(TOLD) < said.index("people")


def test_attempts_and_usage_of_all_steps_are_counted(engine_for: Any, chat: Any) -> None:
    """The result counts retries and answers that did not fit."""
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
    """The prompt fails as without a probe, and the next one probes again."""
    engine, _ = engine_for(lambda _, c: c.reply({}))
    nowhere = engine.config.model_copy(update={"endpoint": "http://127.0.0.1:9", "max_retries": 0})

    (result,) = nowhere.engine.results("A city.", output_model=City)

    assert type(result.error) is APIConnectionError
    assert result.attempts == 1
    assert nowhere.engine.backend.enforcement.verdicts() == {}


def _crashes_at(schema: str, text: str, chat: Any) -> Any:
    """A server like llama-cpp-python: a 500 for a format that it lacks, a 200 for others."""

    def handler(request: Any, connection: Any) -> None:
        if schema in str(request.json.get("response_format")):
            connection.reply({"error": {"message": "Unsupported response_format"}}, status=500)
        else:
            connection.reply(chat(text))

    return handler


def test_server_that_crashes_at_schemas_is_found_by_the_probe(
    engine_for: Any, chat: Any, caplog: Any
) -> None:
    """A 500 with a schema and a 200 without it proves it; a batch probes once."""
    engine, server = engine_for(_crashes_at("json_schema", LYON, chat), retry_wait=0.001)

    outputs = engine.generate(["A city."] * 5, output_model=City)

    assert {o.schema_strategy for o in outputs} == {"json_object"}
    assert [v.first for v in engine.backend.enforcement.verdicts().values()] == ["json_object"]
    assert "it fails on JSON schemas" in caplog.text
    # The probe, the same without a schema, the probe again with its retries, and the prompts.
    assert len(server.requests) == 1 + 1 + 3 + 5


def test_server_that_crashes_at_one_schema_is_remembered(engine_for: Any, chat: Any) -> None:
    """If every attempt failed, the next prompt does not ask for that schema."""
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


def test_one_crash_proves_nothing(engine_for: Any, chat: Any) -> None:
    """Without retries the next strategy answers, and the next prompt tries the schema again."""
    engine, _ = engine_for(
        _crashes_at("json_schema", LYON, chat), structured="json_schema", max_retries=0
    )

    results = [engine.results("A city.", output_model=City)[0] for _ in range(2)]

    assert [r.attempts for r in results] == [2, 2]
    assert all(r.ok for r in results)


def test_server_that_crashes_at_everything_is_asked_once_more(engine_for: Any) -> None:
    """Then the format is not the cause; the first failure is the error."""

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
    """The strategy stays, and nothing is remembered."""
    engine, server = engine_for(
        lambda _, c: c.reply({"error": {"message": "busy"}}, status=status),
        structured="json_schema",
        max_retries=0,
    )

    (result,) = engine.results("A city.", output_model=City)

    assert type(result.error) is InternalServerError
    assert len(server.requests) == 1


def test_stream_of_a_server_that_crashes_at_schemas(engine_for: Any, chunk: Any) -> None:
    """A stream uses the next strategy too, since nothing was delivered yet."""

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
