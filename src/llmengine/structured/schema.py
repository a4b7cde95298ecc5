"""Output models, each with its JSON schema and the validator for its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_origin

from pydantic import AfterValidator, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import from_json, to_json

from llmengine.structured.features import features_of, keyword_of, outer_feature, own_features
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from jsonschema import SchemaError
    from jsonschema.protocols import Validator

JSONSchema = Mapping[str, Any]

_DEFS = "#/$defs/"


def resolved(schema: JSONSchema, root: JSONSchema) -> JSONSchema:
    """The schema with ``$ref`` followed to its target; a target must not refer to itself."""
    while str(schema.get("$ref", "")).startswith(_DEFS):
        schema = root["$defs"][_name(schema["$ref"])]
    return schema


def _name(ref: str) -> str:
    return ref.removeprefix(_DEFS).replace("~1", "/").replace("~0", "~")


def allows_null(schema: JSONSchema, root: JSONSchema) -> bool:
    """Whether null is valid by the schema; it is valid if the schema has no constraints."""
    schema = resolved(schema, root)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return any(allows_null(choice, root) for choice in schema[keyword])
    if "const" in schema or "enum" in schema:
        return None in schema.get("enum", [schema.get("const")])
    kinds = schema.get("type", "null")
    return "null" in ([kinds] if isinstance(kinds, str) else kinds)


def _validator_class(schema: JSONSchema) -> type[Validator]:
    """The jsonschema class for the draft that the schema names, by default the newest draft."""
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415 - slow

    return validator_for(schema, default=Draft202012Validator)


def schema_error(schema: JSONSchema) -> SchemaError | None:
    """The error that makes the mapping an invalid JSON schema; None if it is a valid one."""
    from jsonschema import SchemaError  # noqa: PLC0415 - slow, and only some programs need it

    try:
        _validator_class(schema).check_schema(dict(schema))
    except SchemaError as error:
        return error
    return None


def schema_adapter(schema: JSONSchema) -> TypeAdapter[Any]:
    """An adapter that validates JSON by a schema and returns plain values.

    Raises InvalidRequestError if the mapping is not a JSON schema.
    """
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - slow

    if (invalid := schema_error(schema)) is not None:
        msg = f"output_model is not a JSON schema: {invalid.json_path}: {invalid.message}"
        raise InvalidRequestError(msg) from invalid
    validator = _validator_class(schema)(schema)

    def check(value: Any) -> Any:
        if error := best_match(validator.iter_errors(value)):
            raise ValueError(f"{error.json_path}: {error.message}")
        return value

    return TypeAdapter(Annotated[Any, AfterValidator(check)])


def is_valid(value: Any, schema: JSONSchema) -> bool:
    """Whether the value is valid by the schema."""
    return _validator_class(schema)(schema).is_valid(value)


def broken_features(text: str, schema: JSONSchema) -> frozenset[str]:
    """The features of the schema that a JSON text breaks; empty if it fits or is not JSON.

    Only the most relevant error counts, because others may follow from it. An error inside a
    keyword that servers often ignore, such as ``not`` or ``patternProperties``, is one of it.
    """
    from jsonschema.exceptions import best_match  # noqa: PLC0415 - slow

    try:
        errors = _validator_class(schema)(schema).iter_errors(from_json(text))
        error = best_match(errors)
    except (ValueError, RecursionError):
        return frozenset()
    if error is None:
        return frozenset()
    if outer := outer_feature(error.absolute_schema_path):
        return frozenset({outer})
    own = own_features(error.schema) if isinstance(error.schema, Mapping) else ()
    return frozenset(name for name in own if keyword_of(name) == error.validator)


def with_defaults(value: object, schema: JSONSchema) -> object:
    """A valid value in which each property that is left out has the default of the schema."""
    validator = _validator_class(schema)(schema)

    def complete(value: Any, part: object) -> object:
        if not isinstance(part, Mapping):  # true, by which every value is valid
            return value
        part = resolved(part, schema)
        for choice in part.get("anyOf", ()):
            if validator.evolve(schema=choice).is_valid(value):
                return complete(value, choice)
        if isinstance(value, list) and "items" in part:
            return [complete(item, part["items"]) for item in value]
        return complete_object(value, part) if isinstance(value, dict) else value

    def complete_object(value: dict[str, object], part: JSONSchema) -> dict[str, object]:
        properties, others = part.get("properties", {}), part.get("additionalProperties")
        known = {
            key: complete(value[key], inner) if key in value else inner["default"]
            for key, inner in properties.items()
            if key in value or (isinstance(inner, Mapping) and "default" in inner)
        }
        rest = {key: complete(v, others) for key, v in value.items() if key not in properties}
        return known | rest

    return complete(value, schema)


# The name of a response_format, by OpenAI's reference.
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]+")
_LONGEST_NAME = 64
_CACHED = 256


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """An output model, ready for use: ``adapter`` validates, ``schema`` describes the answer.

    ``text`` is the schema as compact JSON. ``is_object`` says that every value of the shape is a
    JSON object; JSON mode can give only objects. ``features`` are the features of JSON schemas that
    it uses.
    """

    name: str
    adapter: TypeAdapter[Any]
    schema: JSONSchema
    text: str
    is_object: bool
    features: frozenset[str]


def shape_of(model: object) -> Shape:
    """The shape of a pydantic model, dataclass, TypedDict or any type that pydantic knows.

    A JSON schema, as a mapping, has a shape too. Raises InvalidRequestError for a type that
    pydantic cannot validate or has no JSON schema for.
    """
    if isinstance(model, Mapping):
        return _of_schema(_text(model))
    try:
        hash(model)
    except TypeError:  # such as an Annotated with a Field
        return _shape(model)
    return _cached_shape(model)


def _shape(model: Any) -> Shape:
    try:
        if isinstance(model, str):  # pydantic would look for a type of that name
            msg = "a string is not a type"
            raise TypeError(msg)
        adapter = TypeAdapter(model)
        # A copy, because pydantic may return the same dictionary to other callers.
        schema = deepcopy(adapter.json_schema())
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError) as error:
        reason = str(error).partition("\n")[0]
        msg = (
            f"output_model is {model!r}: {reason}; give a pydantic model, a dataclass, a "
            "TypedDict, another type that pydantic can validate, or a JSON schema"
        )
        raise InvalidRequestError(msg) from error
    # Since Python 3.14 a union has a name too, which says nothing about the answer.
    is_union = get_origin(model) in {Union, UnionType}
    name = None if is_union else getattr(model, "__name__", None)
    return _new_shape(name or "answer", adapter, schema)


@lru_cache(_CACHED)
def _of_schema(text: str) -> Shape:
    schema = from_json(text)
    return _new_shape(schema.get("title") or "answer", schema_adapter(schema), schema)


def _text(schema: JSONSchema) -> str:
    try:
        return to_json(schema).decode()
    except ValueError as error:
        raise InvalidRequestError(f"output_model is not a JSON schema: {error}") from error


def _new_shape(name: str, adapter: TypeAdapter[Any], schema: JSONSchema) -> Shape:
    valid_name = _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]
    is_object = _is_object(schema, schema)
    return Shape(valid_name, adapter, schema, _text(schema), is_object, features_of(schema))


_cached_shape = lru_cache(_CACHED)(_shape)


def _is_object(schema: JSONSchema, root: JSONSchema) -> bool:
    schema = resolved(schema, root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return all(_is_object(choice, root) for choice in choices)
    return schema.get("type") == "object"
