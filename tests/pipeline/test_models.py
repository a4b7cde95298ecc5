"""Models that a pipeline file gives as a schema: what they accept, and what is refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import ConfigError, InvalidRequestError
from llmengine.pipeline import Step
from llmengine.pipeline.files import model_of, spec_of

if TYPE_CHECKING:
    from llmengine.pipeline.step import Model

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


def model(schema: Any = RICH) -> Model:
    """The model of a schema."""
    return model_of("A", {"schema": schema}, WHERE)


def seen(data: dict[str, Any], model: Model) -> dict[str, Any]:
    """The data as a template sees them after the model has validated them."""
    names = ", ".join(f'"{name}": {name}' for name in model["properties"])
    step = Step(
        id="s", engine="e", user_prompt=f"{{{{ {{ {names} }} | tojson }}}}", input_model=model
    )
    (message,) = step.messages("r", data, {})
    read: dict[str, Any] = json.loads(message["content"])
    return read


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
    """The data come back under their own names; what is left out is null."""
    read = seen(FITS | more, model())
    assert {k: v for k, v in read.items() if v is not None or k in more} == FITS | more
    assert read.keys() == RICH["properties"].keys()


def test_what_is_left_out_has_its_default_at_any_depth() -> None:
    """Defaults are filled in items, definitions and choices; null is the default of a default."""
    part = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "level": {"type": "integer", "default": 1}},
        "required": ["name"],
    }
    schema = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/P"}},
            "choice": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/P"}]},
            "by_name": {"type": "object", "additionalProperties": {"$ref": "#/$defs/P"}},
            "note": {"type": "string"},
        },
        "required": ["items", "choice", "by_name"],
        "$defs": {"P": part},
    }
    data = {
        "items": [{"name": "a"}],
        "choice": {"name": "b", "level": 2},
        "by_name": {"x": {"name": "c", "level": None}},
    }

    assert seen(data, model(schema)) == {
        "items": [{"name": "a", "level": 1}],
        "choice": {"name": "b", "level": 2},
        "by_name": {"x": {"name": "c", "level": None}},
        "note": None,
    }


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
    """Every supported keyword is checked."""
    with pytest.raises(
        InvalidRequestError, match="step 's': input_model: record 'r' is not a valid A"
    ):
        seen(FITS | wrong, model())


def test_the_schema_of_the_model_gives_the_model_again() -> None:
    """The model that a run's folder holds is the same model."""
    assert model_of("Other", spec_of(model()), WHERE) == model()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "string", "format": "date"}, "a: 'format' is not supported beside maxLength"),
        ({"type": "object", "properties": {"b": {"type": "null"}}, "minProperties": 1}, "a: 'min"),
        ({"type": "str"}, "properties.a.type: 'str' is not a type; the types are string, integer"),
        ({"description": "x"}, "a: type: is missing; the types are string"),
        ({"enum": [True, "x"]}, "a: enum: YAML reads yes, no, on and off as true and false"),
        ({"enum": ["a"], "type": "integer"}, "a: enum: 'a' does not have the type 'integer'"),
        ({"enum": []}, "a: enum: give a list of values"),
        ({"type": "string", "pattern": "("}, "properties.a.pattern: is not valid in a JSON schema"),
        (
            {"type": "integer", "minimum": "x"},
            "properties.a.minimum: is not valid in a JSON schema",
        ),
        ({"type": "array"}, "a: items: is missing"),
        ({"type": "array", "items": {"type": "object"}}, "a.items: properties: are missing"),
        ({"$ref": "other.json"}, "a: $ref: 'other.json' is not below #/$defs/"),
        ({"$ref": "#/$defs/N"}, "a.$defs.N.n: $ref: 'N' contains itself"),
        ({"anyOf": [{"type": "string"}], "type": "string"}, "a: 'type' is not supported beside"),
        (True, "a: the schema True is not supported here"),
    ],
)
def test_what_is_not_supported_is_named(part: Any, message: str) -> None:
    """The error names the model, the path and the keyword; nothing is dropped in silence."""
    recursive = {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}}
    with pytest.raises(ConfigError) as caught:
        model({"type": "object", "properties": {"a": part}, "$defs": recursive})
    assert str(caught.value).startswith(f"{WHERE}: {message}")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "string"}, "the schema must be of an object with properties"),
        ([], "a JSON schema is a mapping"),
        (
            {"type": "object", "properties": {True: {"type": "null"}}},
            "properties: True is not a str",
        ),
        (
            {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
            "required: 'b' is not among the properties",
        ),
    ],
)
def test_a_schema_must_be_of_an_object(schema: Any, message: str) -> None:
    """The whole must be an object."""
    with pytest.raises(ConfigError) as caught:
        model(schema)
    assert str(caught.value).startswith(f"{WHERE}: {message}")


def test_fields_are_a_short_form() -> None:
    """A type, a list of values, or a schema; all required but those with a question mark."""
    fields = {"text": "string", "kind": ["a", "b"], "score?": {"type": "number", "maximum": 1}}
    short = model_of("A", {"fields": fields}, WHERE)
    assert short["properties"]["kind"] == {"type": "string", "enum": ["a", "b"]}
    assert seen({"text": "t", "kind": "a"}, short) == {"text": "t", "kind": "a", "score": None}
    for wrong in (
        {"text": "t"},
        {"text": "t", "kind": "c"},
        {"text": "t", "kind": "a", "score": 2},
    ):
        with pytest.raises(InvalidRequestError):
            seen(wrong, short)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no.such.module:A", "'no.such.module:A' cannot be imported: No module named 'no'"),
        ("json:Nothing", "'json:Nothing' cannot be imported: module 'json' has no attribute"),
        ("json:JSONDecoder", "'json:JSONDecoder' is not a pydantic model class"),
        ("json", "'json' is not a model of this file, and not package.module:Class"),
        ({"fields": {"a": "text"}}, "properties.a.type: 'text' is not a type"),
        ({"fields": {}}, "fields: give a mapping"),
        ({"fields": {True: "string"}}, "fields: True is not a string; put the name in quotes"),
        ({"a": "string"}, "give the name of a model, package.module:Class"),
        (7, "give the name of a model"),
    ],
)
def test_a_wrong_spec(spec: Any, message: str) -> None:
    """The error says what would name a model."""
    with pytest.raises(ConfigError) as caught:
        model_of("A", spec, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: {message}")


def test_a_class_of_python_is_named_by_its_place() -> None:
    """Any pydantic model that can be imported can be used."""
    found = model_of("A", "llmengine:EngineConfig", WHERE)
    assert spec_of(found) == "llmengine.engine.engine:EngineConfig"
