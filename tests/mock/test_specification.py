"""The pinned specification of OpenAI as JSON schemas."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from jsonschema import Draft202012Validator

from llmengine.mock import specification as spec

CHAT = "CreateChatCompletionRequest"
FIELDS = {
    "POST /chat/completions": 37,
    "POST /completions": 18,
    "POST /embeddings": 5,
    "POST /responses": 31,
}


def test_each_schema_is_valid_and_complete() -> None:
    """Every schema is one of JSON Schema, and has all schemas to which it refers."""
    names = spec.schema_names()
    assert len(names) > 300
    every = {name: spec.resolved({"$ref": f"#/$defs/{name}"}) for name in names}
    Draft202012Validator.check_schema({"$defs": every})
    for name in names:
        schema = spec.json_schema(name)
        references = re.findall(r"'\$ref': '#/\$defs/([^']*)'", repr(schema))
        definitions = schema.get("$defs", {})
        assert isinstance(definitions, dict)
        assert set(references) == set(definitions), name


@pytest.mark.parametrize(("operation", "count"), FIELDS.items())
def test_the_create_requests_have_their_fields(operation: str, count: int) -> None:
    """The fields of all parts of a request are listed, and the operation is known."""
    fields = spec.request_fields(operation)
    assert len(fields) == count
    assert {"model", "user"} <= set(fields)
    assert operation in spec.operations()


def test_an_unknown_operation_is_a_key_error() -> None:
    """An operation that the specification does not have is named."""
    with pytest.raises(KeyError, match="POST /edits"):
        spec.request_schema("POST /edits")


def test_an_operation_has_a_whole_answer_and_events() -> None:
    """An answer has one schema as a whole and one for its events."""
    whole = spec.resolved(spec.response_schema("POST /chat/completions"))
    event = spec.resolved(spec.event_schema("POST /chat/completions"))
    assert whole == spec.resolved({"$ref": "#/$defs/CreateChatCompletionResponse"})
    assert event == spec.resolved({"$ref": "#/$defs/CreateChatCompletionStreamResponse"})
    assert spec.event_schema("POST /embeddings") == {}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("ReasoningEffort", ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        (f"{CHAT}.verbosity", ("low", "medium", "high")),
        (f"{CHAT}.tool_choice", ("none", "auto", "required")),
        (f"{CHAT}.modalities[]", ("text", "audio")),
        ("CreateResponse.reasoning.summary", ("auto", "concise", "detailed")),
        (f"{CHAT}.model", ()),  # any string
        (f"{CHAT}.n", ()),  # not a string
    ],
)
def test_the_strings_that_are_allowed(path: str, values: tuple[str, ...]) -> None:
    """An enum is found behind references, unions and arrays."""
    assert spec.enum(path) == values


@pytest.mark.parametrize(
    ("path", "bounds"),
    [
        (f"{CHAT}.temperature", (0, 2)),
        ("CreateResponse.max_output_tokens", (16, None)),
        ("CreateCompletionRequest.logprobs", (0, 5)),
        (f"{CHAT}.stop", (None, None)),
    ],
)
def test_the_bounds_of_numbers(path: str, bounds: tuple[float | None, float | None]) -> None:
    """Bounds are found in the same way."""
    assert spec.bounds(path) == bounds


def test_an_unknown_path_is_a_key_error() -> None:
    """A field that no schema has is named."""
    with pytest.raises(KeyError, match="sampling"):
        spec.at(f"{CHAT}.sampling")


VALID = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"seed": None, "stop": None, "reasoning_effort": None}, True),  # nullable fields
        ({"reasoning_effort": "max"}, True),
        ({"reasoning_effort": "bogus"}, False),
        ({"temperature": 2.5}, False),
        ({"messages": None}, False),
    ],
)
def test_a_schema_validates_a_request(change: dict[str, object], fits: bool) -> None:
    """The schema of a request accepts what OpenAI accepts, and null where it may be null."""
    validator = Draft202012Validator(dict(spec.json_schema(CHAT)))
    assert validator.is_valid({**VALID, **change}) is fits


def test_parts_of_a_union_may_overlap() -> None:
    """An input item that fits two schemas is valid."""
    validator = Draft202012Validator(dict(spec.json_schema("CreateResponse")))
    text = {"type": "input_text", "text": "Hi"}
    assert validator.is_valid({"model": "m", "input": [{"role": "user", "content": [text]}]})


def test_the_licence_and_the_revision_are_beside_the_file() -> None:
    """The package has the notice that the licence demands."""
    folder = resources.files("llmengine.mock") / "openai_openapi"
    notice = (folder / "LICENSE").read_text("utf-8")
    assert "MIT License" in notice
    assert spec.URL in notice
    assert spec.REVISION in notice
    assert (folder / f"{spec.REVISION[:7]}.json").is_file()
