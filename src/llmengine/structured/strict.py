"""OpenAI's strict dialect of JSON schema: how schemas are rewritten and answers are read.

OpenAI enforces a strict schema completely. The rules are those of OpenAI's guide "Structured
Outputs", section "Supported schemas": an object at the root, no additional properties, every
property required, and a short list of keywords.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from llmengine.structured.schema import allows_null, resolved
from llmengine.types.errors import InvalidRequestError

if TYPE_CHECKING:
    from llmengine.structured.schema import Shape
    from llmengine.types.wire import JSONSchema


def without_added_nulls(
    value: object, schema: JSONSchema, root: JSONSchema | None = None
) -> object:
    """The value without the properties that are null although the output model allows no null.

    A strict answer holds every property, so it has null for a property that it leaves out. When
    the null is removed, the output model uses its default.
    """
    root = schema if root is None else root
    schema = _chosen(value, resolved(schema, root), root)
    if isinstance(value, list) and "items" in schema:
        return [without_added_nulls(item, schema["items"], root) for item in value]
    if not isinstance(value, dict):
        return value
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return {
        key: without_added_nulls(item, properties.get(key, {}), root)
        for key, item in value.items()
        if item is not None or key in required or allows_null(properties.get(key, {}), root)
    }


def _chosen(value: object, schema: JSONSchema, root: JSONSchema) -> JSONSchema:
    """The choice that a strict answer fits: the one with exactly its keys and constants."""
    for keyword in ("anyOf", "oneOf"):
        for choice in schema.get(keyword, ()):
            candidate = _chosen(value, resolved(choice, root), root)
            if _fits(value, candidate):
                return candidate
    return schema


def _fits(value: object, schema: JSONSchema) -> bool:
    if isinstance(value, list):
        return "items" in schema
    properties = schema.get("properties")
    if not isinstance(value, dict) or properties is None:
        return False
    tags = {key: p["const"] for key, p in properties.items() if "const" in p}
    return set(value) == set(properties) and all(value[k] == tag for k, tag in tags.items())


# Keywords that do not constrain the answer; OpenAI refuses some of them.
_DROPPED = frozenset(
    {
        "$comment",
        "$schema",
        "default",
        "deprecated",
        "discriminator",
        "examples",
        "readOnly",
        "writeOnly",
    }
)
_COPIED = frozenset(
    {
        "const",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "multipleOf",
        "pattern",
        "title",
        "type",
    }
)
_REWRITTEN = frozenset({"anyOf", "format", "items", "properties", "required"})
_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"}
)
_CONSTRAINING = frozenset({"anyOf", "const", "enum", "type"})
_CACHED = 256


@lru_cache(_CACHED)
def strict_schema(shape: Shape) -> dict[str, object]:
    """The schema of a shape in OpenAI's strict dialect; the shape itself is not changed.

    An optional property becomes one that may be null, because strict answers hold every property.
    Raises InvalidRequestError, which names the keyword and its path, for a schema that the dialect
    does not support.
    """
    root = shape.schema
    if not (shape.is_object and "properties" in resolved(root, root)):
        _refuse(shape.name, "a root that is not an object with fixed fields", "wrap it in a model")
    top = {key: value for key, value in resolved(root, root).items() if key != "$defs"}
    schema = _node(top, root, shape.name)
    if root.get("$defs"):
        defs = root["$defs"].items()
        schema["$defs"] = {name: _node(d, root, f"{shape.name}.$defs.{name}") for name, d in defs}
    return schema


def _node(schema: object, root: JSONSchema, path: str) -> dict[str, object]:
    """One schema, rewritten together with all schemas inside it."""
    plain = _plain(schema, path)
    if "$ref" in plain:
        return _reference(plain)
    _check(plain, path)
    node = {key: value for key, value in plain.items() if key in _COPIED | {"format"}}
    if "anyOf" in plain:
        choices = enumerate(plain["anyOf"])
        node["anyOf"] = [_node(choice, root, f"{path}.anyOf[{i}]") for i, choice in choices]
    if "items" in plain:
        node["items"] = _node(plain["items"], root, f"{path}.items")
    if plain.get("type") == "object":
        node |= _object(plain, root, path)
    return node


def _plain(schema: object, path: str) -> dict[str, Any]:
    """The schema without annotations and without pydantic's two wrappers (`oneOf`, `allOf`)."""
    if not isinstance(schema, dict):
        _refuse(path, f"the schema {schema!r}", "give the field a type")
    plain = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "discriminator" in schema and "oneOf" in plain:
        # The tags of the choices differ, so at most one of the choices can fit.
        plain["anyOf"] = plain.pop("oneOf")
    if len(plain.get("allOf", ())) == 1:
        plain |= plain.pop("allOf")[0]
    return plain


def _reference(plain: dict[str, Any]) -> dict[str, object]:
    """A reference, wrapped if it has other keywords, such as a description.

    The dialect allows no other keywords next to ``$ref``.
    """
    if len(plain) == 1:
        return plain
    annotations = {key: value for key, value in plain.items() if key != "$ref"}
    return {"anyOf": [{"$ref": plain["$ref"]}], **annotations}


def _check(plain: JSONSchema, path: str) -> None:
    is_bare = plain.get("type") == "object" and "properties" not in plain
    if is_bare or plain.get("additionalProperties", False) is not False:
        _refuse(
            path,
            "an object with free keys (additionalProperties)",
            "its answer would always be empty; give a list of key and value pairs instead",
        )
    known = _COPIED | _REWRITTEN | {"additionalProperties"}
    for keyword in sorted(plain.keys() - known):
        _refuse(path, f"the keyword {keyword!r}", "leave it out of the model")
    if plain.get("format", "date") not in _FORMATS:
        _refuse(path, f"the keyword 'format' with {plain['format']!r}", "leave it out of the model")
    if not plain.keys() & _CONSTRAINING:
        _refuse(path, "a field of any type", "give the field a type")


def _object(plain: JSONSchema, root: JSONSchema, path: str) -> dict[str, object]:
    required = plain.get("required", ())
    properties = {}
    for name, schema in plain.get("properties", {}).items():
        node = _node(schema, root, f"{path}.{name}")
        is_optional = name not in required and not allows_null(schema, root)
        properties[name] = {"anyOf": [node, {"type": "null"}]} if is_optional else node
    return {"properties": properties, "required": list(properties), "additionalProperties": False}


def _refuse(path: str, what: str, advice: str) -> NoReturn:
    msg = (
        f"output_model: {path}: OpenAI's strict schemas do not allow {what}; {advice}, or set "
        "structured: json_object, with which only pydantic checks the answer"
    )
    raise InvalidRequestError(msg)
