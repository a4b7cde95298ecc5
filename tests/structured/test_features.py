"""The features that a schema uses, and the features that an answer breaks."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from llmengine.structured.features import KEYWORDS, features_of
from llmengine.structured.schema import broken_features, shape_of


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    weight: float = Field(gt=0)


class Pet(BaseModel):
    """A tagged union, a format, and a set."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    born: date
    names: set[str] = Field(max_length=3)


def test_a_model_uses_the_features_of_all_its_parts() -> None:
    """The parts of pydantic's schema are in $defs, properties and items."""
    assert shape_of(Pet).features == {
        *("type", "const", "$ref", "properties", "required"),
        *("minimum", "maximum", "exclusiveMinimum:number"),
        *("format:date", "items", "uniqueItems", "maxItems", "oneOf:exclusive"),
    }


@pytest.mark.parametrize(
    ("schema", "features"),
    [
        ({}, set()),
        ({"title": "T", "description": "d", "default": 1, "examples": [1]}, set()),
        ({"minLength": 0, "uniqueItems": False, "additionalProperties": True}, set()),
        ({"additionalProperties": False}, {"additionalProperties"}),
        ({"additionalProperties": {"const": 1}}, {"additionalProperties:schema", "const"}),
        ({"properties": {"pattern": {"const": 1}}}, {"properties", "const"}),
        ({"pattern": "^a$"}, {"pattern"}),
        ({"pattern": "a"}, {"pattern:unanchored"}),
        ({"type": ["integer", "null"], "minimum": 1}, {"type", "minimum"}),
        ({"minimum": 1}, {"minimum:number"}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, {"oneOf:exclusive", "type"}),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, {"oneOf", "type"}),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, {"oneOf", "type"}),
        ({"oneOf": [True, False]}, {"oneOf"}),
        ({"if": {"minimum": 1}, "then": {"const": 1}}, {"if", "minimum:number", "const"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
def test_features_of_a_schema(schema: dict[str, Any], features: set[str]) -> None:
    """Annotations, and keywords that allow everything, are not features."""
    assert features_of(schema) == features


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ('{"size": 1.5}', set()),
        ('{"size": 0.1}', {"minimum:number"}),
        ('{"size": null}', set()),
        ('{"size": "a"}', {"anyOf"}),
        ("{}", {"required"}),
        ('{"size": 1', set()),
        ("no JSON", set()),
    ],
)
def test_the_feature_that_an_answer_breaks(text: str, features: set[str]) -> None:
    """In a union it is the feature of the choice that the answer was meant for."""
    size = {"anyOf": [{"type": "number", "minimum": 0.5}, {"type": "null"}]}
    schema = {"type": "object", "properties": {"size": size}, "required": ["size"]}
    assert broken_features(text, schema) == features


@pytest.mark.parametrize(
    ("schema", "text", "feature"),
    [
        ({"patternProperties": {"^a": {"type": "null"}}}, '{"a": 1}', "patternProperties"),
        ({"properties": {"not": {"const": 1}}}, '{"not": 2}', "const"),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, '{"a": 1}', "if"),
        ({"items": {"minimum": 3}}, "[1]", "minimum:number"),
        ({"$ref": "#/$defs/not", "$defs": {"not": {"minLength": 3}}}, '"a"', "minLength"),
    ],
    ids=str,
)
def test_an_error_inside_a_keyword_that_servers_ignore(
    schema: dict[str, Any], text: str, feature: str
) -> None:
    """The whole of such a keyword was ignored; other keywords hand the error down."""
    assert broken_features(text, schema) == {feature}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*sorted(KEYWORDS), "then", "$defs"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_json)
def test_any_json_has_features(schema: Any) -> None:
    """A mapping that is not a valid schema is for the server to refuse."""
    assert features_of({"anyOf": [schema], "oneOf": [schema, schema]}) >= {"anyOf"}
