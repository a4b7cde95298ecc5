"""Output models written in a file become pydantic models, or an error that names what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from llmengine import ConfigError
from llmengine.pipeline.files import model_of, spec_of

WHERE = "f.yaml: models: A"

RICH: dict[str, Any] = {
    "type": "object",
    "description": "Everything that is supported.",
    "properties": {
        "text": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]+$"},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "score": {"type": "number", "multipleOf": 0.5},
        "flag": {"type": "boolean", "description": "Yes or no."},
        "kind": {"enum": ["a", "b", 3, None]},
        "fixed": {"const": "x"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "maxItems": 2},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]},
        "maybe": {"type": ["string", "null"]},
        "class": {"type": "string"},
        "copy": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["text", "count", "class"],
    "$defs": {
        "Tag": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": True,
        }
    },
}
FITS: dict[str, Any] = {"text": "abc", "count": 2, "class": "k"}


def model(schema: Any = RICH) -> type[BaseModel]:
    """The model of a schema."""
    return model_of("A", {"schema": schema}, WHERE)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"score": 1, "flag": False, "kind": 3, "fixed": "x", "maybe": None},
        {"tags": [{"name": "n", "more": 1}], "either": [1], "copy": {"a": 1.5}},
        {"either": "text", "kind": None},
    ],
)
def test_what_fits_is_taken(more: dict[str, Any]) -> None:
    """The data comes back under its own names; what is left out is null."""
    dumped = model().model_validate(FITS | more).model_dump(mode="json", by_alias=True)
    assert {k: v for k, v in dumped.items() if v is not None or k in more} == FITS | more
    assert dumped.keys() == RICH["properties"].keys()


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": ""},
        {"text": "abcdef"},
        {"text": "ABC"},
        {"count": 0},
        {"count": 10},
        {"count": "2"},
        {"score": 0.3},
        {"flag": "yes"},
        {"kind": "c"},
        {"fixed": "y"},
        {"tags": [{}]},
        {"tags": [{"name": "n"}] * 3},
        {"either": ["x"]},
        {"maybe": 1},
        {"class": None},
        {"copy": {"a": "b"}},
        {"other": 1},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    """Every supported keyword is held."""
    with pytest.raises(ValidationError):
        model().model_validate(FITS | wrong)


def test_the_schema_of_the_model_gives_the_model_again() -> None:
    """What a run's folder keeps of a model is that model."""
    spec = spec_of(model())
    assert model_of("A", spec, WHERE).model_json_schema() == model().model_json_schema()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "string", "format": "date"}, "a: 'format' is not supported beside maxLength"),
        ({"type": "object", "properties": {"b": {"type": "null"}}, "minProperties": 1}, "a: 'min"),
        ({"type": "str"}, "properties.a.type: 'str' is no type; the types are string, integer"),
        ({"description": "x"}, "a: type: is missing; the types are string"),
        ({"enum": [True, "x"]}, "a: enum: YAML reads yes, no, on and off as true and false"),
        ({"enum": [1.5]}, "a: enum: 1.5 is no string"),
        ({"enum": ["a"], "type": "integer"}, "a: enum: 'a' is no integer"),
        ({"enum": []}, "a: enum: give a list of values"),
        ({"type": "string", "pattern": "(?=x)y"}, "a: pattern: error: look-around"),
        ({"type": "integer", "minimum": 0.5}, "a: minimum: "),
        ({"type": "integer", "minimum": "x"}, "properties.a.minimum: is no valid JSON schema: "),
        ({"type": "array"}, "a: items: is missing"),
        ({"type": "array", "items": {"type": "object"}}, "a.items: properties: are missing"),
        ({"$ref": "other.json"}, "a: $ref: 'other.json' is not below #/$defs/"),
        ({"$ref": "#/$defs/N"}, "a.$defs.N.n: $ref: 'N' holds itself"),
        ({"anyOf": [{"type": "string"}], "type": "string"}, "a: 'type' is not supported beside"),
        (True, "a: the schema True is not supported here"),
    ],
)
def test_what_is_not_supported_is_named(part: Any, said: str) -> None:
    """The error names the model, the path and the keyword; nothing is dropped in silence."""
    recursive = {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}
    with pytest.raises(ConfigError) as caught:
        model({"type": "object", "properties": {"a": part}, "$defs": recursive})
    assert str(caught.value).startswith(f"{WHERE}: {said}")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "the schema must be of an object with properties"),
        ([], "a JSON schema is a mapping"),
        ({"type": "object", "properties": {True: {"type": "null"}}}, "properties: True is no str"),
        (
            {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
            "required: 'b' is not among the properties",
        ),
    ],
)
def test_a_schema_that_is_no_answer(schema: Any, said: str) -> None:
    """The whole must be an object."""
    with pytest.raises(ConfigError) as caught:
        model(schema)
    assert str(caught.value).startswith(f"{WHERE}: {said}")


def test_fields_are_a_short_form() -> None:
    """A type, a list of values, or a schema; all required but those with a question mark."""
    fields = {"text": "string", "kind": ["a", "b"], "score?": {"type": "number", "maximum": 1}}
    made = model_of("A", {"fields": fields}, WHERE)
    assert made.model_validate({"text": "t", "kind": "a"}).model_dump()["score"] is None
    for wrong in (
        {"text": "t"},
        {"text": "t", "kind": "c"},
        {"text": "t", "kind": "a", "score": 2},
    ):
        with pytest.raises(ValidationError):
            made.model_validate(wrong)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("no.such.module:A", "'no.such.module:A' cannot be imported: No module named 'no'"),
        ("json:Nothing", "'json:Nothing' cannot be imported: module 'json' has no attribute"),
        ("json:JSONDecoder", "'json:JSONDecoder' is no pydantic model class"),
        ("json", "'json' is no model of this file, and no package.module:Class"),
        ({"fields": {"a": "text"}}, "properties.a.type: 'text' is no type"),
        ({"fields": {}}, "fields: give a mapping"),
        ({"fields": {True: "string"}}, "fields: True is no string; put the name in quotes"),
        ({"a": "string"}, "give the name of a model, package.module:Class"),
        (7, "give the name of a model"),
    ],
)
def test_a_wrong_spec(spec: Any, said: str) -> None:
    """What names no model is refused with what would."""
    with pytest.raises(ConfigError) as caught:
        model_of("A", spec, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: {said}")


def test_a_class_of_python_is_named_by_its_place() -> None:
    """Any pydantic model that can be imported can be used."""
    found = model_of("A", "llmengine:EngineConfig", WHERE)
    assert spec_of(found) == "llmengine.config.engine:EngineConfig"
