"""Any type that pydantic validates is an output_model."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from datetime import date  # noqa: TC003 - pydantic needs it here
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, RootModel, TypeAdapter
from typing_extensions import TypedDict

from llmengine import EngineConfig, InvalidRequestError, StructuredOutputError
from llmengine.structured.schema import shape_of


class Colour(Enum):
    """Values that are not names."""

    RED = "#f00"
    BLUE = "#00f"


class Point(BaseModel):
    """A part of others."""

    x: float
    y: float


class Nested(BaseModel):
    """Models in models and in lists."""

    origin: Point
    path: list[Point] = Field(min_length=1, max_length=2)


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    tricks: list[str]


class Tagged(BaseModel):
    """A union that a tag decides."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Loose(BaseModel):
    """A union without a tag, an enum, a date and an optional field."""

    value: int | str
    colour: Colour
    when: date
    note: str | None = None


class Constrained(BaseModel):
    """Limits on numbers and lengths."""

    age: int = Field(ge=0, le=120)
    code: str = Field(pattern=r"^[A-Z]{3}$")


class Tree(BaseModel):
    """A model that holds itself."""

    label: str
    children: list[Tree] = []


class Aliased(BaseModel):
    """The JSON has another name."""

    class_name: str = Field(alias="class")


class Names(RootModel[list[str]]):
    """A root that is not an object."""


@dataclass
class Size:
    """A plain dataclass."""

    width: int
    height: int


class Options(TypedDict):
    """A plain dictionary."""

    verbose: bool


EVERY = [
    Nested,
    Tagged,
    Loose,
    Constrained,
    Tree,
    Aliased,
    Names,
    Size,
    Options,
    list[Point],
    Cat | Dog,
    Annotated[list[int], Field(min_length=2)],
    int,
]


@pytest.mark.parametrize("model", EVERY, ids=str)
def test_every_type_is_asked_for_and_parsed(model: Any) -> None:
    """The server gets its schema, and the parsed answer is an instance."""
    with EngineConfig(backend="mock", model="mock").engine as engine:
        (output,) = engine.generate("Anything.", output_model=model)

        sent = engine.server.calls[0].json["response_format"]["json_schema"]

    adapter = TypeAdapter(model)
    assert sent["schema"] == adapter.json_schema()
    assert output.parsed == adapter.validate_json(output.outputs[0].text)


def test_a_schema_is_an_output_model_as_well() -> None:
    """An answer that fits is given as plain values; references are followed."""
    schema = Nested.model_json_schema()
    with EngineConfig(backend="mock", model="mock").engine as engine:
        (output,) = engine.generate("Anything.", output_model=schema)

        sent = engine.server.calls[0].json["response_format"]["json_schema"]

    assert sent == {"name": "Nested", "schema": schema, "strict": True}
    assert output.parsed == json.loads(output.outputs[0].text)
    assert Nested.model_validate(output.parsed)


def test_answer_that_does_not_fit_a_schema_is_an_error(mock_servers: Any) -> None:
    """All strategies are tried for a schema too, and the error has the path and the reason."""
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 120}}}
    engine = mock_servers.engine(
        '{"age": 130}', '{"age": 131}', '{"age": 132}', structured="json_schema"
    )

    (result,) = engine.results("Old?", output_model=schema)

    assert isinstance(result.error, StructuredOutputError)
    assert "$.age: 132 is greater than the maximum of 120" in str(result.error)
    assert mock_servers.formats == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"const": object()}], ids=["type", "value"])
def test_mapping_that_is_not_a_schema_is_refused(schema: Any) -> None:
    """It is an error before anything is sent."""
    with pytest.raises(InvalidRequestError, match="output_model is not a JSON schema"):
        shape_of(schema)


def test_json_mode_is_left_out_for_a_root_that_is_not_an_object(mock_servers: Any) -> None:
    """JSON mode gives only objects, so the prompt asks for a list in words."""
    engine = mock_servers.engine("Paris.", "no", '["a", "b"]')

    (output,) = engine.generate("Names.", output_model=Names)

    assert output.parsed.root == ["a", "b"]
    assert mock_servers.formats == [None, None]
    assert output.schema_strategy == "repair"


@pytest.mark.parametrize(
    "model",
    ["City", 7, Point(x=1, y=2), object()],
    ids=["name", "number", "instance", "object"],
)
def test_value_that_is_not_a_type_is_refused(model: Any) -> None:
    """An instance, a name or any other object is an error before anything is sent."""
    with EngineConfig(backend="mock", model="mock").engine as engine:
        (result,) = engine.results("Anything.", output_model=model)

        assert type(result.error) is InvalidRequestError
        assert "give a pydantic model, a dataclass, a TypedDict" in str(result.error)
        assert result.attempts == 0
        assert engine.server.calls == []


def test_schema_of_the_model_is_never_changed() -> None:
    """Pydantic caches schemas, so a copy is sent."""
    before = deepcopy(Tree.model_json_schema())

    shape_of(Tree).schema["$defs"].clear()  # type: ignore[attr-defined]  # on purpose
    shape_of.__globals__["_cached_shape"].cache_clear()

    assert Tree.model_json_schema() == before
    assert json.loads(shape_of(Tree).text) == before


def test_name_fits_the_wire() -> None:
    """OpenAI takes at most 64 letters, digits, dashes and underscores."""
    long = type("Ünicode" + "x" * 80, (Point,), {})

    assert shape_of(RootModel[list[int]]).name == "RootModel_list_int_"
    assert len(shape_of(long).name) == 64
    assert shape_of(Cat | Dog).name == "answer"
