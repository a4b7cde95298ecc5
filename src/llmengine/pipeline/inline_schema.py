"""JSON schemas in a pipeline file: which keywords are supported, and how a schema is completed.

The answers are validated by `llmengine.structured.schema`. A keyword that is not supported is
refused by name, so that no keyword of a schema is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmengine.structured.schema import allows_null, is_valid, resolved, schema_error
from llmengine.types.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


_DEFINITIONS = "#/$defs/"
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "$schema", "$defs", "$comment"}
)
_NUMBER = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_KEYWORDS = {
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "integer": _NUMBER,
    "number": _NUMBER,
    "boolean": frozenset[str](),
    "null": frozenset[str](),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
_TYPES = ", ".join(_KEYWORDS)
_TYPE_NAMES = {str: "string", int: "integer", float: "number"}
_USE_A_CLASS = "write the model in Python, and give it as package.module:Class"


@dataclass(frozen=True, slots=True)
class _Location:
    """A position in a schema.

    ``root`` is the whole schema; ``definitions`` are the names of the definitions around the
    position.
    """

    where: str
    root: Mapping[str, object]
    path: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()

    def below(self, *parts: str) -> _Location:
        return replace(self, path=(*self.path, *parts))

    def definition(self, name: str) -> _Location:
        return replace(self.below("$defs", name), definitions=(*self.definitions, name))

    def error(self, problem: str) -> ConfigError:
        path = f"{'.'.join(self.path)}: " if self.path else ""
        return ConfigError(f"{self.where}: {path}{problem}")


def complete_schema(name: str, schema: object, where: str) -> dict[str, object]:
    """The schema of an object, completed for validation; ``name`` is its title if it has none.

    An object accepts no other properties than its own unless ``additionalProperties`` is true. A
    property that is not required may also be null, and is null by default. Raises ConfigError,
    which begins with `where` and names the path and the keyword.
    """
    location = _checked(schema, where)
    completed = _completed(location.root, location)
    if "properties" not in resolved(completed, location.root):
        raise location.error("the schema must be of an object with properties")
    if definitions := _definitions(location.root):
        completed["$defs"] = {
            key: _completed(part, location.definition(key)) for key, part in definitions.items()
        }
    return {"title": name} | completed


def _checked(schema: object, where: str) -> _Location:
    if not isinstance(schema, dict):
        raise ConfigError(f"{where}: a JSON schema is a mapping, such as {{type: object, ...}}")
    error = schema_error(schema)
    if error is None:
        return _Location(where, schema)
    path = tuple(map(str, error.absolute_path))
    problem = f"is not valid in a JSON schema: {error.message}"
    if path[-1:] == ("type",):
        problem = f"{error.instance!r} is not a type; the types are {_TYPES}"
    raise _Location(where, {}, path).error(problem)


def _completed(schema: object, location: _Location) -> dict[str, object]:
    if not isinstance(schema, dict):
        raise location.error(f"the schema {schema!r} is not supported here; write a mapping")
    if "$ref" in schema:
        _check_reference(schema, location)
        return schema
    if "anyOf" in schema:
        _check_keywords(schema, {"anyOf"}, location)
        choices = enumerate(schema["anyOf"])
        return schema | {
            "anyOf": [_completed(s, location.below(f"anyOf[{i}]")) for i, s in choices]
        }
    if "enum" in schema or "const" in schema:
        return _completed_enum(schema, location)
    if "type" not in schema:
        raise location.error(f"type: is missing; the types are {_TYPES}")
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if unknown := [one for one in types if one not in _KEYWORDS]:
        raise location.error(f"type: {unknown[0]!r} is not a type; the types are {_TYPES}")
    _check_keywords(schema, {"type"}.union(*(_KEYWORDS[one] for one in types)), location)
    completed = dict(schema)
    if "array" in types:
        if "items" not in schema:
            raise location.error("items: is missing; say what the array holds")
        completed["items"] = _completed(schema["items"], location.below("items"))
    if "object" in types:
        completed |= _completed_object(schema, location)
    return completed


def _check_reference(schema: Mapping[str, object], location: _Location) -> None:
    _check_keywords(schema, {"$ref"}, location)
    definitions, target = _definitions(location.root), str(schema["$ref"])
    name = target.removeprefix(_DEFINITIONS)
    if not target.startswith(_DEFINITIONS) or name not in definitions:
        raise location.error(f"$ref: {target!r} is not below {_DEFINITIONS}")
    if name in location.definitions:
        raise location.error(
            f"$ref: {name!r} contains itself, which is not supported; {_USE_A_CLASS}"
        )
    _completed(definitions[name], location.definition(name))


def _definitions(root: Mapping[str, object]) -> Mapping[str, object]:
    definitions = root.get("$defs")
    return definitions if isinstance(definitions, dict) else {}


def _check_keywords(schema: Mapping[str, object], known: set[str], location: _Location) -> None:
    for keyword in schema:
        if keyword not in known | _ANNOTATIONS:
            beside = ", ".join(sorted(known))
            raise location.error(f"{keyword!r} is not supported beside {beside}; {_USE_A_CLASS}")


def _completed_enum(schema: Mapping[str, object], location: _Location) -> dict[str, object]:
    """The schema with the type of its values if they have one, because OpenAI requires a type."""
    _check_keywords(schema, {"enum", "const", "type"}, location)
    values = schema.get("enum", [schema.get("const")])
    if not isinstance(values, list) or not values:
        raise location.error("enum: give a list of values")
    kind = schema.get("type")
    for value in values:
        if isinstance(value, bool) and kind != "boolean":
            raise location.error(
                "enum: YAML reads yes, no, on and off as true and false; put them in quotes, or "
                "write type: boolean"
            )
        if kind is not None and not is_valid(value, {"type": kind}):
            raise location.error(f"enum: {value!r} does not have the type {kind!r}")
    types = {_TYPE_NAMES.get(type(value)) for value in values}
    only = types.pop() if len(types) == 1 else None
    return dict(schema) if only is None else {"type": only} | dict(schema)


def _completed_object(schema: Mapping[str, object], location: _Location) -> dict[str, object]:
    more, properties = schema.get("additionalProperties", False), schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return {"additionalProperties": _completed_values(more, location)}
    if not isinstance(more, bool):
        raise location.error("additionalProperties: give true or false beside properties")
    if wrong := [key for key in properties if not isinstance(key, str)]:
        raise location.error(f"properties: {wrong[0]!r} is not a string; put the name in quotes")
    required = schema.get("required", [])
    assert isinstance(required, list)  # by the check of the whole schema
    if missing := sorted(set(required) - set(properties)):
        raise location.error(f"required: {missing[0]!r} is not among the properties")
    completed = {key: _completed(part, location.below(key)) for key, part in properties.items()}
    return {
        "properties": {
            key: part if key in required else _optional(part, location.root)
            for key, part in completed.items()
        },
        "additionalProperties": more,
    }


def _completed_values(more: object, location: _Location) -> object:
    """The schema of all values of an object that has no properties of its own."""
    if more is False:
        raise location.error(
            "properties: are missing; an object needs some, or additionalProperties"
        )
    return more if more is True else _completed(more, location.below("additionalProperties"))


def _optional(schema: dict[str, object], root: Mapping[str, object]) -> dict[str, object]:
    """The schema of a property that may be left out: null is allowed, and is the default."""
    default = {"default": schema.get("default")}
    if allows_null(schema, root):
        return schema | default
    part = {key: value for key, value in schema.items() if key != "default"}
    return {"anyOf": [part, {"type": "null"}]} | default
