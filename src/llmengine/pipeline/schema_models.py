"""Pydantic models from JSON schemas, for the part of JSON schema that a YAML file needs.

A keyword that is not supported is refused by name, so that nothing in a schema is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import jsonschema
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic_core import SchemaError

from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


INLINE_MODULE = "llmengine.pipeline.inline"  # the __module__ of such models

_DEFINITIONS = "#/$defs/"
_ABOUT = {"title", "description", "default", "examples", "$schema", "$defs", "$comment"}
_STRING = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
_NUMBER = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_ARRAY = {"minItems": "min_length", "maxItems": "max_length"}
_SCALARS: dict[str, tuple[Any, dict[str, str]]] = {
    "string": (str, _STRING),
    "integer": (int, _NUMBER),
    "number": (float, _NUMBER),
    "boolean": (bool, {}),
    "null": (None, {}),
}

_KNOWN = ", ".join([*_SCALARS, "array", "object"])


@dataclass(frozen=True, slots=True)
class _Place:
    """The current position in a schema; ``open`` are the definitions that are being built."""

    where: str
    definitions: Mapping[str, Any]
    path: tuple[str, ...] = ()
    open: tuple[str, ...] = field(default=())

    def at(self, *parts: str) -> _Place:
        return replace(self, path=(*self.path, *parts))

    def error(self, problem: str) -> ConfigError:
        path = f"{'.'.join(self.path)}: " if self.path else ""
        return ConfigError(f"{self.where}: {path}{problem}")


def model_of_schema(name: str, schema: Any, where: str) -> type[BaseModel]:
    """The pydantic model of a JSON schema of an object.

    Values are validated strictly ("5" is not an integer). An object accepts no other properties
    than its own unless ``additionalProperties`` is true. A property that is not required may also
    be null, and is null if it is left out. Raises ConfigError that begins with `where` and names
    the path and the keyword.
    """
    _check_form(schema, where)
    place = _Place(where, schema.get("$defs", {}))
    made = _type(schema, place, name)
    if not (isinstance(made, type) and issubclass(made, BaseModel)):
        raise place.error("the schema must be of an object with properties")
    return made


def _check_form(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        raise _Place(where, {}).error("a JSON schema is a mapping, such as {type: object, ...}")
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        path = tuple(map(str, error.absolute_path))
        problem = f"is no valid JSON schema: {error.message}"
        if path[-1:] == ("type",):
            problem = f"{error.instance!r} is no type; the types are {_KNOWN}"
        raise _Place(where, {}, path).error(problem) from error


def _type(schema: Any, place: _Place, name: str) -> Any:
    if not isinstance(schema, dict):
        raise place.error(f"the schema {schema!r} is not supported here; write a mapping")
    if "$ref" in schema:
        return _reference(schema, place)
    if "anyOf" in schema:
        _only({"anyOf"}, schema, place)
        branches = enumerate(schema["anyOf"])
        return _union([_type(s, place.at(f"anyOf[{i}]"), f"{name}_{i}") for i, s in branches])
    if "enum" in schema or "const" in schema:
        return _literal(schema, place)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union([_type({**schema, "type": one}, place, name) for one in kind])
    if kind in _SCALARS:
        made, keywords = _SCALARS[kind]
        return _constrained(made, keywords, schema, place)
    if kind in _NESTED:
        return _NESTED[kind](schema, place, name)
    raise place.error(f"type: is missing; the types are {_KNOWN}")


def _union(types: list[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007 - only known at run time


def _only(keywords: set[str], schema: Mapping[str, Any], place: _Place) -> None:
    for keyword in schema:
        if keyword not in keywords | _ABOUT:
            known = ", ".join(sorted(keywords))
            raise place.error(
                f"{keyword!r} is not supported beside {known}; write the model in Python, and give "
                "it as package.module:Class"
            )


def _constrained(made: Any, keywords: dict[str, str], schema: Any, place: _Place) -> Any:
    _only({"type", *keywords}, schema, place)
    limits = {keywords[k]: v for k, v in schema.items() if k in keywords}
    if not limits:
        return made
    constrained = Annotated[made, Field(**limits)]
    try:
        TypeAdapter(constrained)
    except (SchemaError, TypeError) as error:
        said = str(error).splitlines()[-1].strip()
        raise place.error(f"{', '.join(k for k in schema if k in keywords)}: {said}") from error
    return constrained


def _literal(schema: Mapping[str, Any], place: _Place) -> Any:
    _only({"enum", "const", "type"}, schema, place)
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list) or not values:
        raise place.error("enum: give a list of values")
    kind = schema.get("type")
    for value in values:
        if value is not None and not isinstance(value, (str, int)):
            raise place.error(f"enum: {value!r} is no string, whole number, boolean or null")
        if isinstance(value, bool) and kind != "boolean":
            raise place.error(
                "enum: YAML reads yes, no, on and off as true and false; put them in quotes, or "
                "write type: boolean"
            )
        if kind in _SCALARS and not _is_a(value, kind):
            raise place.error(f"enum: {value!r} is no {kind}")
    return Literal[tuple(values)]


def _is_a(value: object, kind: str) -> bool:
    made = _SCALARS[kind][0]
    if made is None:
        return value is None
    kinds = (int, float) if made is float else made
    return isinstance(value, kinds) and isinstance(value, bool) == (made is bool)


def _array(schema: Mapping[str, Any], place: _Place, name: str) -> Any:
    if "items" not in schema:
        raise place.error("items: is missing; say what the array holds")
    items: Any = _type(schema["items"], place.at("items"), f"{name}_item")
    rest = {k: v for k, v in schema.items() if k != "items"}
    return _constrained(list[items], _ARRAY, rest, place)


def _object(schema: Mapping[str, Any], place: _Place, name: str) -> Any:
    _only({"type", "properties", "required", "additionalProperties"}, schema, place)
    more = schema.get("additionalProperties", False)
    properties = schema.get("properties") or {}
    if not properties:
        return _mapping(more, place, name)
    if not isinstance(more, bool):
        raise place.error("additionalProperties: give true or false beside properties")
    if odd := [key for key in properties if not isinstance(key, str)]:
        raise place.error(f"properties: {odd[0]!r} is no string; put the name in quotes")
    required = set(schema.get("required", ()))
    if missing := sorted(required - set(properties)):
        raise place.error(f"required: {missing[0]!r} is not among the properties")
    fields = {
        _python_name(key, number): _field(key, part, place, f"{name}_{key}", key in required)
        for number, (key, part) in enumerate(properties.items())
    }
    config = ConfigDict(extra="allow" if more else "forbid", strict=True, title=schema.get("title"))
    made: Any = create_model(
        name,
        __config__=config,
        __doc__=schema.get("description"),
        __module__=INLINE_MODULE,
        **fields,  # type: ignore[call-overload]  # the names are in the schema
    )
    return made


def _mapping(more: Any, place: _Place, name: str) -> Any:
    if more is False:
        raise place.error("properties: are missing; an object needs some, or additionalProperties")
    if more is True:
        return dict[str, Any]
    values: Any = _type(more, place.at("additionalProperties"), f"{name}_value")
    return dict[str, values]


def _field(key: str, schema: Any, place: _Place, name: str, required: bool) -> tuple[Any, Any]:
    made = _type(schema, place.at(key), name)
    about = {k: schema[k] for k in ("title", "description", "examples") if k in schema}
    if required:
        return made, Field(alias=key, **about)
    return _union([made, None]), Field(schema.get("default"), alias=key, **about)


def _python_name(key: str, number: int) -> str:
    """The key as a field name; another name if the key is not valid or reserved by pydantic."""
    usable = key.isidentifier() and not key.startswith(("_", "model_"))
    return key if usable and not hasattr(BaseModel, key) else f"field_{number}"


def _reference(schema: Mapping[str, Any], place: _Place) -> Any:
    _only({"$ref"}, schema, place)
    target = str(schema["$ref"])
    name = target.removeprefix(_DEFINITIONS)
    if not target.startswith(_DEFINITIONS) or name not in place.definitions:
        raise place.error(f"$ref: {target!r} is not below {_DEFINITIONS}")
    if name in place.open:
        raise place.error(
            f"$ref: {name!r} holds itself, which is not supported; write the model in Python, "
            "and give it as package.module:Class"
        )
    inside = replace(place.at(f"$defs.{name}"), open=(*place.open, name))
    return _type(place.definitions[name], inside, name)


_NESTED: dict[str, Callable[[Any, _Place, str], Any]] = {"array": _array, "object": _object}
