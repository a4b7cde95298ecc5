"""Schemas with a keyword that the server accepts and does not enforce."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine import SamplingParams, StructuredOutputError

PROOF = '{"vq": "kzzub-7"}'
TOLD = "Answer with one JSON value"  # in the system message of a request with the schema
FIVES = {
    "title": "Fives",
    "type": "object",
    "properties": {"value": {"type": "integer", "multipleOf": 5}},
    "required": ["value"],
}
WHOLE = {"title": "Whole", "type": "object", "properties": {"value": {"type": "integer"}}}
SEVEN, TEN = '{"value": 7}', '{"value": 10}'


def _drop_multiple_of(body: Any, _: Any) -> Any:
    """A server that enforces schemas, but not multipleOf."""
    if wanted := (body.get("response_format") or {}).get("json_schema"):
        wanted["schema"].get("properties", {}).get("value", {}).pop("multipleOf", None)
    return body


def _has_schema_message(request: Any) -> bool:
    return TOLD in str(request["messages"][0])


def test_a_feature_that_an_answer_breaks_is_remembered(
    mock_servers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Later calls have the schema in the system message too; other schemas are sent as before."""
    engine = mock_servers.engine(PROOF, SEVEN, TEN, TEN, TEN, request=_drop_multiple_of)

    (first,) = engine.generate("A number.", output_model=FIVES)
    (second,) = engine.generate("A number.", output_model=FIVES)
    (other,) = engine.generate("A number.", output_model=WHOLE)

    assert [o.parsed for o in (first, second, other)] == [{"value": 10}] * 3
    assert [o.schema_strategy for o in (first, second)] == ["json_object", "json_schema"]
    assert mock_servers.formats == ["json_schema", "json_object", "json_schema", "json_schema"]
    told = [_has_schema_message(request) for request in mock_servers.requests]
    assert told == [False, True, True, False]
    (warning,) = [r.getMessage() for r in caplog.records if "multipleOf" in r.getMessage()]
    assert mock_servers.server.root_url in warning
    assert "does not enforce multipleOf" in warning
    assert "say it in the prompt too" in warning


def test_a_server_that_enforces_the_feature_gets_the_schema_alone(mock_servers: Any) -> None:
    """Nothing is learned from answers that fit."""
    engine = mock_servers.engine()

    for _ in range(2):
        engine.generate('Repeat this JSON: {"value": 7}', output_model=FIVES)

    assert mock_servers.formats == ["json_schema", "json_schema"]
    assert not any(map(_has_schema_message, mock_servers.requests))


def test_what_is_known_of_a_backend_is_used_in_its_first_call(
    mock_servers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """llama.cpp ignores multipleOf: a wrong answer is sent back, and the rest stays enforced."""
    engine = mock_servers.engine(PROOF, SEVEN, TEN, backend="embedded")

    (output,) = engine.generate("A number.", output_model=FIVES)

    assert (output.parsed, output.schema_strategy) == ({"value": 10}, "repair")
    assert mock_servers.formats == ["json_schema", "json_schema"]
    first, second = mock_servers.requests
    assert _has_schema_message(first)
    assert "not a multiple of 5" in second["messages"][-1]["content"]
    assert [r for r in caplog.records if "multipleOf" in r.getMessage()]


def test_the_error_names_the_feature_and_the_server(mock_servers: Any) -> None:
    """An answer that breaks the feature is never returned."""
    engine = mock_servers.engine(PROOF, SEVEN, SEVEN, backend="embedded")

    (result,) = engine.results("A number.", output_model=FIVES)

    assert isinstance(result.error, StructuredOutputError)
    assert result.error.message.endswith(
        f"; {mock_servers.server.root_url}/v1/chat/completions does not enforce multipleOf: say it "
        "in the prompt too, leave it out of the schema, or use a server that enforces it"
    )


def test_a_stream_learns_and_names_it_too(mock_servers: Any) -> None:
    """A stream has one step, so its error is the last word."""
    engine = mock_servers.engine(PROOF, SEVEN, TEN, request=_drop_multiple_of)

    with pytest.raises(StructuredOutputError, match="does not enforce multipleOf"):
        list(engine.stream("A number.", output_model=FIVES))
    *_, last = engine.stream("A number.", output_model=FIVES)

    assert last.parsed == {"value": 10}
    told = [_has_schema_message(request) for request in mock_servers.requests]
    assert told == [False, True]


def test_an_answer_that_is_not_validated_is_refused(mock_servers: Any) -> None:
    """With structured_outputs only the server can enforce the schema."""
    engine = mock_servers.engine(backend="vllm_api", request=_drop_multiple_of)
    unvalidated = SamplingParams(structured_outputs={"json": FIVES})
    engine.generate("A number.", unvalidated)
    with pytest.raises(StructuredOutputError):  # the model of the mock repeats what is asked for
        list(engine.stream('Repeat this JSON: {"value": 7}', output_model=FIVES))

    (refused,) = engine.results("A number.", unvalidated)
    assert isinstance(refused.error, StructuredOutputError)
    assert "accepts JSON schemas but does not enforce multipleOf" in str(refused.error)
    engine.generate("A number.", SamplingParams(structured_outputs={"json": WHOLE}))


def test_closing_the_engine_forgets_it(mock_servers: Any) -> None:
    """Another server may have the address later."""
    engine = mock_servers.engine(PROOF, SEVEN, TEN, PROOF, TEN, request=_drop_multiple_of)
    engine.generate("A number.", output_model=FIVES)

    engine.close()
    engine.generate("A number.", output_model=FIVES)

    assert not _has_schema_message(mock_servers.requests[-1])
