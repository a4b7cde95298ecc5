"""Schemas in OpenAI's strict dialect, and the answers to them."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import AnyUrl, BaseModel, Field, RootModel

from llmengine import Engine, EngineConfig, InvalidRequestError
from llmengine.backends.base import Backend
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.mock import MockServer, Script
from llmengine.structured.schema import shape_of
from llmengine.structured.strict import strict_schema


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    name: str | None


class Owner(BaseModel):
    """All that the dialect supports."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    pets: list[Cat | Dog] = []
    best: Cat = Field(Cat(kind="cat"), description="the dearest")
    age: int = Field(30, ge=0, lt=150)
    mail: str | None = None
    friends: list[Owner] = []


def objects(schema: Any) -> list[Any]:
    """Every object schema in a schema."""
    if isinstance(schema, list):
        return [o for item in schema for o in objects(item)]
    if not isinstance(schema, dict):
        return []
    here = [schema] if schema.get("type") == "object" else []
    return here + [o for item in schema.values() for o in objects(item)]


def test_every_object_is_closed_and_every_property_required() -> None:
    """At the root, in definitions, in lists and in unions."""
    schema = strict_schema(shape_of(Owner))

    found = objects(schema)
    assert len(found) == 4
    for one in found:
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])


def test_result_is_a_schema_of_supported_keywords() -> None:
    """No reference at the root or beside other keywords, no default and no oneOf."""
    schema = strict_schema(shape_of(Owner))
    text = json.dumps(schema)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    for keyword in ("default", "discriminator", "oneOf", "allOf"):
        assert f'"{keyword}":' not in text
    best = schema["properties"]["best"]["anyOf"][0]
    assert best == {"anyOf": [{"$ref": "#/$defs/Cat"}], "description": "the dearest"}
    assert schema["properties"]["age"]["anyOf"][0]["exclusiveMaximum"] == 150


def test_optional_becomes_nullable_once() -> None:
    """An optional field may be null; a field that may be null already stays as it is."""
    properties = strict_schema(shape_of(Owner))["properties"]

    assert properties["age"]["anyOf"][1] == {"type": "null"}
    assert properties["mail"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert "anyOf" in properties["pet"]
    assert {"type": "null"} not in properties["pet"]["anyOf"]


def test_shape_stays_as_it_is() -> None:
    """The conversion copies."""
    shape = shape_of(Owner)
    before = deepcopy(shape.schema)

    strict_schema(shape)

    assert shape.schema == before


class Free(BaseModel):
    """A dictionary with keys of its own."""

    data: dict[str, int]


class Open(BaseModel, extra="allow"):
    """Anything may be added."""

    name: str


class Anything(BaseModel):
    """A field without a type."""

    inner: list[Any]


class Pair(BaseModel):
    """A tuple."""

    both: tuple[int, str]


class Unique(BaseModel):
    """A set."""

    tags: set[str]


class Link(BaseModel):
    """A format that OpenAI does not know."""

    url: AnyUrl


class Deep(BaseModel):
    """The unsupported part is in a definition."""

    links: list[Link]


class Own(BaseModel):
    """A keyword of one's own."""

    name: str = Field(json_schema_extra={"not": {"const": "x"}})


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        (Free, "Free.data", "additionalProperties"),
        (Open, "Open", "additionalProperties"),
        (Anything, "Anything.inner.items", "any type"),
        (Pair, "Pair.both", "'prefixItems'"),
        (Unique, "Unique.tags", "'uniqueItems'"),
        (Link, "Link.url", "'format' with 'uri'"),
        (Deep, "Deep.$defs.Link.url", "'format' with 'uri'"),
        (Own, "Own.name", "'not'"),
        (RootModel[list[int]], "RootModel_list_int_", "not an object with fixed fields"),
        (Cat | Dog, "answer", "not an object with fixed fields"),
        (dict[str, int], "dict", "not an object with fixed fields"),
    ],
    ids=str,
)
def test_unsupported_keyword_is_named(model: Any, path: str, words: str) -> None:
    """The message has the path, the keyword and what to do."""
    with pytest.raises(InvalidRequestError) as caught:
        strict_schema(shape_of(model))

    assert f"output_model: {path}: " in str(caught.value)
    assert words in str(caught.value)
    assert "structured: json_object" in str(caught.value)


class StrictBackend(Backend):
    """A server that takes the strict dialect only."""

    name = "strict"
    dialect = OpenAIChat()
    trusts_schema = True
    schema_dialect = "openai_strict"


def ask(*replies: str, model: Any = Owner, **config: Any) -> tuple[Any, list[Any]]:
    """The result of a strict engine whose server says this, and the requests to the server."""
    with MockServer(script=Script(replies=replies)) as server:
        fields = {"backend": "strict", "model": "mock", "endpoint": server.root_url}
        engine = Engine(EngineConfig(**(fields | config)), StrictBackend)
        (result,) = engine.results("Who?", output_model=model)
        return result, [call.json for call in server.calls]


def test_strict_engine_sends_the_strict_schema_and_parses_its_answers() -> None:
    """The mock server answers in the schema, with every property."""
    result, (body,) = ask()

    sent = body["response_format"]["json_schema"]
    assert sent["strict"] is True
    assert sent["schema"] == strict_schema(shape_of(Owner))
    assert isinstance(result.unwrap().parsed, Owner)


def test_null_for_what_was_left_out_becomes_the_default() -> None:
    """In lists and unions too; a null that the model accepts stays."""
    answer = {
        "pet": {"kind": "cat", "lives": None},
        "pets": [{"kind": "dog", "name": None}, {"kind": "cat", "lives": None}],
        "best": None,
        "age": None,
        "mail": None,
        "friends": None,
    }

    result, _ = ask(json.dumps(answer))

    parsed = result.unwrap().parsed
    assert (parsed.pet.lives, parsed.age, parsed.mail) == (9, 30, None)
    assert parsed.pets == [Dog(kind="dog", name=None), Cat(kind="cat")]
    assert result.output.outputs[0].text == json.dumps(answer)


def test_null_for_what_is_required_is_still_wrong() -> None:
    """Null stands only for an optional field."""
    answer = {"pet": None, "pets": [], "best": None, "age": 1, "mail": None, "friends": []}

    result, _ = ask(json.dumps(answer), "no", "no")

    assert "json_schema: the answer is not a valid Owner: pet" in str(result.error)


def test_null_is_kept_where_no_strict_schema_was_sent() -> None:
    """JSON mode asks for no nulls, so one that the model does not accept is wrong."""
    answer = '{"kind": "cat", "lives": null}'

    result, _ = ask(answer, answer, model=Cat, structured="json_object")

    assert "lives: Input should be a valid integer" in str(result.error)


def test_unsupported_model_is_refused_before_anything_is_sent() -> None:
    """The error is the prompt's result, and recommends JSON mode."""
    refused, nothing = ask(model=Free)
    answered, asked = ask('{"data": {"a": 1}}', model=Free, structured="json_object")

    assert type(refused.error) is InvalidRequestError
    assert (refused.attempts, nothing) == (0, [])
    assert answered.unwrap().parsed == Free(data={"a": 1})
    assert len(asked) == 1
