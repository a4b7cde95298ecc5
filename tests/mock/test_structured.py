"""response_format: values that fit any JSON schema, and refusals of impossible schemas."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema.validators import Draft202012Validator, validator_for

if TYPE_CHECKING:
    from conftest import Api

FORMATS = ["date-time", "date", "time", "email", "ipv4", "ipv6", "uuid", "duration", "regex"]

NASTY: dict[str, Any] = {
    "nested": {
        "type": "object",
        "properties": {"a": {"type": "object", "properties": {"b": {"type": "array"}}}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "enum of mixed types": {"enum": [None, 3, "x"]},
    "const object": {"const": {"a": [1, {"b": None}]}},
    "oneOf that overlaps": {
        "oneOf": [{"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 10}]
    },
    "anyOf of impossible and possible": {
        "anyOf": [{"type": "string", "minLength": 3, "maxLength": 2}, {"type": "boolean"}]
    },
    "anyOf beside oneOf": {
        "anyOf": [{"type": "object"}, {"type": "array"}],
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "discriminated union": {
        "oneOf": [
            {"properties": {"t": {"const": "cat"}, "n": {"type": "integer"}}, "required": ["t"]},
            {"properties": {"t": {"const": "dog"}}, "required": ["t"], "type": "object"},
        ],
        "type": "object",
    },
    "allOf of references": {
        "$defs": {"base": {"properties": {"id": {"format": "uuid", "type": "string"}}}},
        "allOf": [{"$ref": "#/$defs/base"}, {"required": ["id", "n"]}],
        "type": "object",
        "properties": {"n": {"type": "integer"}},
    },
    "allOf of ranges": {"allOf": [{"type": "number"}, {"minimum": 3}, {"maximum": 3.5}]},
    "allOf of patterns": {"allOf": [{"type": "string", "pattern": "^a"}, {"pattern": "b$"}]},
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["kids"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "linked list": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    },
    "mutual recursion": {
        "$defs": {
            "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}}},
            "b": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]},
        },
        "$ref": "#/$defs/b",
    },
    "anchor": {"$defs": {"x": {"$anchor": "here", "minimum": 9}}, "allOf": [{"$ref": "#here"}]},
    "escaped pointer": {
        "type": "object",
        "properties": {"a/b": {"type": "integer"}, "c": {"$ref": "#/properties/a~1b"}},
        "required": ["c"],
    },
    "pattern": {"type": "string", "pattern": r"^[A-Z]{2}\d{3,}-(foo|bar)$", "minLength": 12},
    "pattern with lookaheads": {
        "type": "string",
        "pattern": r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)(?=.*[!@#]).{8,}$",
    },
    "pattern of Chinese": {"type": "string", "pattern": "^[\u4e00-\u9fff]{2,}$"},
    "pattern with a back reference": {"type": "string", "pattern": r"^(ab|c)-\1$"},
    "length to the letter": {"type": "string", "minLength": 100, "maxLength": 100},
    "narrow open range": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "negative multiple": {"type": "integer", "minimum": -7, "maximum": -5, "multipleOf": 3},
    "multiple of a cent": {"type": "number", "multipleOf": 0.01, "minimum": 0.05},
    "formats": {
        "type": "object",
        "properties": {f: {"type": "string", "format": f} for f in FORMATS},
        "required": FORMATS,
    },
    "long email": {"type": "string", "format": "email", "minLength": 60},
    "unique items": {
        "type": "array",
        "items": {"type": "integer", "minimum": 5},
        "minItems": 20,
        "uniqueItems": True,
    },
    "all of a set": {"items": {"enum": [1, 2, 3]}, "minItems": 3, "uniqueItems": True},
    "contains": {
        "type": "array",
        "items": {"type": "integer"},
        "contains": {"minimum": 100},
        "minContains": 2,
        "maxContains": 2,
        "minItems": 5,
    },
    "tuple": {"prefixItems": [{"type": "string"}, {"const": 1}], "items": False, "minItems": 2},
    "tuple of draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "string"}, {"const": 1}],
        "additionalItems": False,
        "minItems": 2,
    },
    "keys by pattern": {
        "type": "object",
        "patternProperties": {"^S_[a-z]+$": {"type": "string"}},
        "additionalProperties": False,
        "minProperties": 3,
    },
    "keys by name": {
        "type": "object",
        "propertyNames": {"pattern": "^k[0-9]$"},
        "additionalProperties": {"type": "integer"},
        "minProperties": 2,
    },
    "few of many": {
        "type": "object",
        "properties": {k: {"type": "null"} for k in "abcdef"},
        "required": ["f"],
        "maxProperties": 2,
        "minProperties": 2,
    },
    "not": {"not": {"type": ["string", "integer", "object"]}},
    "if then else": {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "x": {"type": "integer"}},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"required": ["x"]},
        "else": {"required": ["y"]},
    },
    "dependencies": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
        "required": ["a"],
        "dependentRequired": {"a": ["b"]},
        "dependentSchemas": {"b": {"required": ["c"], "properties": {"c": {"type": "number"}}}},
    },
    "unevaluated": {
        "allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}],
        "properties": {"b": {"type": "integer"}},
        "unevaluatedProperties": False,
    },
    "null or text": {"type": ["null", "string"], "minLength": 2},
    "anything": True,
    "wide": {
        "type": "object",
        "properties": {f"p{i}": {"type": "array", "items": {"type": "number"}} for i in range(60)},
        "required": [f"p{i}" for i in range(60)],
    },
}

IMPOSSIBLE: dict[str, Any] = {
    "false": False,
    "contradiction": {"type": "string", "minLength": 5, "maxLength": 2},
    "no common type": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "without an end": {"type": "array", "minItems": 1, "items": {"$ref": "#"}},
    "itself": {"$ref": "#"},
    "reference to nowhere": {"$ref": "#/$defs/none"},
    "reference to the web": {"$ref": "https://example.com/schema.json"},
    "required but forbidden": {"type": "object", "properties": {"a": False}, "required": ["a"]},
    "endless repetition": {"type": "string", "pattern": "((a{1000}){1000}){1000}"},
}

INVALID: dict[str, Any] = {
    "unknown type": {"type": "strin"},
    "no schema": [1, 2],
    "number": 5,
    "required is no list": {"type": "object", "required": "a"},
    "broken pattern": {"type": "string", "pattern": "("},
    "dialect of another kind": {"$schema": []},
    "dialect too old": {"$schema": "http://json-schema.org/draft-03/schema#"},
}


def _format(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}


@pytest.mark.parametrize("name", NASTY)
def test_answer_fits_the_schema(reference: Api, name: str) -> None:
    """The text is JSON that fits the schema, also its formats."""
    schema = NASTY[name]
    text = reference.text(response_format=_format(schema))

    kind = validator_for(schema, default=Draft202012Validator)
    errors = list(kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(json.loads(text)))
    assert errors == []


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_schema_that_no_value_fits_is_refused(reference: Api, name: str) -> None:
    """A schema that no value fits is a 400, and not a wrong answer."""
    response = reference.chat(response_format=_format(IMPOSSIBLE[name]))

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Unsupported schema")


@pytest.mark.parametrize("name", INVALID)
def test_invalid_schema_is_refused(reference: Api, name: str) -> None:
    """An invalid schema is a 400 that names the field."""
    response = reference.chat(response_format=_format(INVALID[name]))

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format.json_schema.schema"


def test_json_object_is_an_object(reference: Api) -> None:
    """JSON mode gives an object that is not empty."""
    text = reference.text("Answer in JSON.", response_format={"type": "json_object"})

    assert json.loads(text)


def test_names_of_the_prompt_fill_the_strings(reference: Api) -> None:
    """The strings of an answer come from the prompt, so that a reader sees the connection."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

    text = reference.text("This is about Ludmila.", response_format=_format(schema))
    assert json.loads(text) == {"name": "Ludmila"}


def test_stream_and_tools_keep_the_schema(reference: Api) -> None:
    """The answer fits the schema also in a stream, and besides tools that are not called."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "unrelated"}}
    chunks = reference.chunks(response_format=_format(schema))
    streamed = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

    assert isinstance(json.loads(streamed)["n"], int)
    assert reference.text(response_format=_format(schema), tools=[tool]) == streamed


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"structured_outputs": {"json_object": True}}),
        ("/api/chat", {"format": "json", "stream": False}),
    ],
)
def test_json_mode_reads_a_schema_from_the_prompt(
    reference: Api, path: str, body: dict[str, Any]
) -> None:
    """The answer fits the schema in the prompt, of words outside of it; other JSON is no schema."""
    asked = (
        f'Describe "Ada" as {{"x": 1}} says, by this schema: {json.dumps(PERSON)} Answer in JSON.'
    )
    messages = [{"role": "system", "content": "JSON"}, {"role": "user", "content": asked}]
    answer = reference.post(path, messages=messages, **body).json()
    message = answer["message"] if path == "/api/chat" else answer["choices"][0]["message"]
    person = json.loads(message["content"])

    Draft202012Validator(PERSON).validate(person)
    assert person["name"] == "Ada"


def test_token_limit_cuts_the_json(reference: Api) -> None:
    """An answer longer than the limit is cut, and its finish reason is length."""
    choice = reference.said(response_format=_format(NASTY["wide"]), max_tokens=9)

    assert choice["finish_reason"] == "length"
    with pytest.raises(ValueError, match="line 1"):
        json.loads(choice["message"]["content"])


_ORDERED = {
    "type": "object",
    "properties": {"b": {"type": "integer", "multipleOf": 5}, "a": {"format": "date"}},
    "required": ["b", "a"],
}


@pytest.mark.parametrize(
    ("dictated", "answered"),
    [
        ('{"b": 15, "a": "2026-01-31"}', '{"b": 15, "a": "2026-01-31"}'),
        ('{"a": "2026-01-31", "b": 15}', '{"b": 15, "a": "2026-01-31"}'),
        ('{"b": 7, "a": "2026-01-31"}', None),
        ('{"b": 15, "a": "tomorrow"}', None),
        ('{"b": 15, "a": "2026-13-01"}', None),
        ('{"b": 15}', None),
        ("[NaN]", None),
        ("no JSON", None),
    ],
)
def test_dictated_json_is_the_answer_only_if_it_fits(
    reference: Api, dictated: str, answered: str | None
) -> None:
    """The model follows the prompt, and the schema holds it to its keywords, formats and order."""
    prompt = f"Repeat this JSON: {dictated}"
    text = reference.chat(prompt, response_format=_format(_ORDERED)).json()["choices"][0][
        "message"
    ]["content"]
    if answered is None:
        value = json.loads(text)
        Draft202012Validator(_ORDERED).validate(value)
        assert text != dictated
    else:
        assert text == answered


@pytest.mark.parametrize(("strict", "answered"), [(True, False), (False, True), (None, True)])
def test_a_schema_that_is_not_strict_is_a_hint(
    reference: Api, strict: bool | None, answered: bool
) -> None:
    """Only a strict schema holds the model to it if the prompt dictates other JSON."""
    wanted = {"name": "it", "strict": strict, "schema": {"enum": ["blue"]}}
    body = reference.chat(
        'Repeat this JSON: "green"',
        response_format={"type": "json_schema", "json_schema": wanted},
    ).json()
    said = json.loads(body["choices"][0]["message"]["content"])
    assert said == ("green" if answered else "blue")
