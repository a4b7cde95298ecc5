"""OpenAI's API specification at a pinned revision, as JSON schemas.

The file is trimmed; ``openai_openapi/LICENSE`` says where it is from. It is read at the first use.
Schemas are shared between calls, so callers must not change them.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from llmengine.mock.json_fields import Body, items, mapping, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = Body  # a JSON schema

REVISION = "f85dbe223d40e1a31cba812ab2d755c7e98a92a3"
URL = f"https://github.com/openai/openai-openapi/blob/{REVISION[:7]}/openapi.yaml"

_COMPONENT = "#/components/schemas/"
_DEFINITION = "#/$defs/"
_NULL: Schema = {"type": "null"}
# Keywords of OpenAPI that the draft 2020-12 does not have; the rest begin with "x-".
_OPENAPI_ONLY = frozenset({"nullable", "discriminator", "$recursiveAnchor"})


class Bounds(NamedTuple):
    """The smallest and the largest number of a field; None if there is no limit."""

    low: float | None
    high: float | None


# ---- operations


def operations() -> tuple[str, ...]:
    """Every operation, such as ``POST /chat/completions``."""
    paths = mapping(_document()["paths"])
    return tuple(f"{method.upper()} {path}" for path in paths for method in mapping(paths[path]))


def request_schema(operation: str) -> Schema:
    """The schema of an operation's JSON body; an empty schema if it takes none."""
    return _content(mapping(_operation(operation).get("requestBody")), "application/json")


def response_schema(operation: str) -> Schema:
    """The schema of an operation's whole answer with status 200."""
    return _content(_success(operation), "application/json")


def event_schema(operation: str) -> Schema:
    """The schema of each event in an operation's stream; an empty schema if it has no stream."""
    return _content(_success(operation), "text/event-stream")


def request_fields(operation: str) -> dict[str, Schema]:
    """The fields of an operation's JSON body with their schemas, in alphabetical order."""
    return dict(sorted(properties(request_schema(operation)).items()))


def _operation(name: str) -> Schema:
    method, _, path = name.partition(" ")
    found = mapping(mapping(_document()["paths"]).get(path)).get(method.lower())
    if not isinstance(found, dict):
        raise KeyError(name)
    return found


def _success(operation: str) -> Schema:
    return mapping(mapping(_operation(operation).get("responses")).get("200"))


def _content(message: Schema, media_type: str) -> Schema:
    schema = mapping(mapping(mapping(message.get("content")).get(media_type)).get("schema"))
    return mapping(_as_json_schema(schema))


# ---- schemas


def schema_names() -> frozenset[str]:
    """The names of all schemas."""
    return frozenset(_schemas())


def json_schema(name: str) -> Schema:
    """The named schema with all schemas that it uses in ``$defs``, in the draft 2020-12."""
    return self_contained(_schemas()[name])


def self_contained(schema: Schema) -> Schema:
    """A schema of this module with all schemas that it uses in ``$defs``."""
    used: dict[str, Schema] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in used:
            used[name] = _schemas()[name]
            waiting += _references(used[name])
    return {**schema, "$defs": used} if used else schema


def at(path: str) -> list[Schema]:
    """The schemas that a value may have at a path; null is left out.

    The path begins with the name of a schema, such as ``CreateResponse.reasoning.effort``; a step
    into an array has ``[]``, as in ``CreateResponse.include[]``. Raises KeyError if no schema has
    the path.
    """
    name, *steps = path.replace("[]", ".[]").split(".")
    found = list(alternatives(_schemas()[name]))
    for step in steps:
        inner = [_step(schema, step) for schema in found]
        found = [a for schema in inner if schema is not None for a in alternatives(schema)]
    if not found:
        raise KeyError(path)
    return found


def enum(path: str) -> tuple[str, ...]:
    """The strings that are allowed at a path; empty if any string is."""
    texts = [schema for schema in at(path) if "string" in types(schema)]
    if any("enum" not in schema for schema in texts):
        return ()
    return tuple(dict.fromkeys(text(v) for s in texts for v in items(s["enum"]) if v is not None))


def bounds(path: str) -> Bounds:
    """The bounds of the numbers at a path."""
    found = [limits(s) for s in at(path) if types(s) & {"number", "integer"}]
    lows, highs = [b.low for b in found], [b.high for b in found]
    return Bounds(
        None if None in lows else min((v for v in lows if v is not None), default=None),
        None if None in highs else max((v for v in highs if v is not None), default=None),
    )


def limits(schema: Schema) -> Bounds:
    """The bounds that one schema has."""
    low, high = schema.get("minimum"), schema.get("maximum")
    return Bounds(
        low if isinstance(low, int | float) else None,
        high if isinstance(high, int | float) else None,
    )


def types(schema: Schema) -> set[str]:
    """The JSON types of a schema; empty if it allows all of them."""
    kind = schema.get("type")
    return {kind} if isinstance(kind, str) else {text(one) for one in items(kind)}


def _step(schema: Schema, step: str) -> Schema | None:
    found = schema.get("items") if step == "[]" else properties(schema).get(step)
    return found if isinstance(found, dict) else None


def resolved(schema: Schema) -> Schema:
    """The schema to which a reference leads; any other schema is returned as it is."""
    reference = text(schema.get("$ref"))
    return resolved(_schemas()[reference.removeprefix(_DEFINITION)]) if reference else schema


def alternatives(schema: Schema) -> Iterator[Schema]:
    """The schemas in a union, and in the unions in it, without references and without null."""
    schema = resolved(schema)
    if "anyOf" in schema:
        for one in items(schema["anyOf"]):
            yield from alternatives(mapping(one))
    elif schema != _NULL:
        yield schema


def properties(schema: Schema) -> dict[str, Schema]:
    """The properties of a schema and of all parts of its ``allOf``; a later part counts."""
    schema = resolved(schema)
    found: dict[str, Schema] = {}
    for part in items(schema.get("allOf")):
        found |= properties(mapping(part))
    own = {k: v for k, v in mapping(schema.get("properties")).items() if isinstance(v, dict)}
    return found | own


def required(schema: Schema) -> list[str]:
    """The properties that an object must have, of all parts of its ``allOf``."""
    schema = resolved(schema)
    parts = [name for part in items(schema.get("allOf")) for name in required(mapping(part))]
    return parts + [text(name) for name in items(schema.get("required"))]


def _references(value: object) -> Iterator[str]:
    """The names of the schemas that a schema refers to."""
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference.removeprefix(_DEFINITION)
        for inner in value.values():
            yield from _references(inner)
    for inner in items(value):
        yield from _references(inner)


# ---- the file


def link(name: str) -> str:
    """The address of a schema or a path, such as ``/embeddings``, in OpenAI's file.

    Raises KeyError for a name that is neither.
    """
    return f"{URL}#L{_lines()[name]}"


@cache
def _lines() -> Mapping[str, int]:
    file = resources.files("llmengine.mock") / "openai_openapi" / f"{REVISION[:7]}-lines.json"
    lines: dict[str, int] = json.loads(file.read_text("utf-8"))
    return lines


@cache
def _document() -> Schema:
    file = resources.files("llmengine.mock") / "openai_openapi" / f"{REVISION[:7]}.json"
    return mapping(json.loads(file.read_text("utf-8")))


@cache
def _schemas() -> Mapping[str, Schema]:
    listed = mapping(_document()["schemas"]).items()
    return {name: mapping(_as_json_schema(schema, name)) for name, schema in listed}


def _as_json_schema(value: object, name: str = "") -> object:
    """A schema of OpenAPI 3.0 or 3.1 as one of JSON Schema; `name` is the schema that it is in.

    A ``oneOf`` becomes an ``anyOf``, because its parts overlap in this specification: an input item
    with ``role`` and a list as ``content``, for example, fits two of them.
    """
    if isinstance(value, list):
        return [_as_json_schema(v, name) for v in value]
    if not isinstance(value, dict):
        return value
    schema: dict[str, object] = {}
    for key, inner in value.items():
        if key == "properties":
            schema[key] = {field: _as_json_schema(v, name) for field, v in mapping(inner).items()}
        elif key in {"default", "enum", "required"}:
            schema[key] = inner
        elif key in {"$ref", "$recursiveRef"}:
            schema["$ref"] = _DEFINITION + (text(inner).removeprefix(_COMPONENT).strip("#") or name)
        elif key not in _OPENAPI_ONLY and not key.startswith("x-"):
            schema["anyOf" if key == "oneOf" else key] = _as_json_schema(inner, name)
    return _with_null(schema) if value.get("nullable") is True else schema


def _with_null(schema: dict[str, object]) -> Schema:
    """The schema, which null fits too."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*items(schema["anyOf"]), _NULL]}
    if "type" not in schema:
        return {"anyOf": [schema, _NULL]}
    allowed = {"enum": [*items(schema["enum"]), None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **allowed}
