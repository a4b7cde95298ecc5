"""The schema matrix: features of JSON schemas, each with an answer that breaks only it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmengine.structured.features import keyword_of, own_features, subschemas

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

JSON = dict[str, Any]

GROUP = "struct.matrix"
"""The group of the rules that are made from the features."""


@dataclass(frozen=True, slots=True)
class SchemaFeature:
    """A feature, a schema that uses it, and an answer that fits the schema without the feature.

    ``id`` is the last part of the rule's id. ``feature`` is the name of the feature in
    `llmengine.structured.features`.
    """

    id: str
    feature: str
    schema: JSON
    violation: JSON

    @property
    def title(self) -> str:
        """The rule in one sentence."""
        asked = json.dumps(self.violation, ensure_ascii=False)
        return f"A schema with {self.feature} is enforced, although the prompt asks for {asked}."

    @property
    def keyword(self) -> str:
        """The keyword of the feature."""
        return keyword_of(self.feature)

    @property
    def relaxed(self) -> JSON | None:
        """The schema without the feature; None if no other schema expresses this."""
        return None if self.feature == ORDER else without_feature(self.schema, self.feature)

    def fits(self, value: Any) -> bool:
        """Whether the value fits the schema, also by its formats and its order of properties."""
        if not _validator(self.schema).is_valid(value):
            return False
        return self.feature != ORDER or list(value) == list(self.schema["properties"])

    def is_broken_by(self, value: Any) -> bool:
        """Whether the value fits the schema but for this feature."""
        return not self.fits(value) and _validator(self.relaxed or self.schema).is_valid(value)


ORDER = "properties:order"
"""Properties come in the order of the schema: OpenAI promises it, and JSON Schema cannot say it."""


def _validator(schema: JSON) -> Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - slow, and few rules need it

    from llmengine.mock.schema_formats import format_checker  # noqa: PLC0415 - the same

    return Draft202012Validator(schema, format_checker=format_checker())


def without_feature(schema: JSON, feature: str) -> JSON:
    """A copy of the schema that does not use the feature, and allows its violation.

    What loses its type loses its other keywords too, because servers take ``items`` for an array.
    The root keeps its type.
    """
    copied = deepcopy(schema)
    keyword = keyword_of(feature)
    parts: list[Any] = list(subschemas(copied))
    for part in parts:
        if feature not in own_features(part) or (part is copied and keyword == "type"):
            continue
        if keyword == "type":
            part.clear()
        else:
            part.pop(keyword)
        if keyword in _OPENED_BY:
            part[_OPENED_BY[keyword]] = {}
    return copied


# Servers write no further properties or items than a schema names, unless it allows them by this.
_OPENED_BY = {
    "additionalProperties": "additionalProperties",
    "items": "items",
    "prefixItems": "items",
}


def _text(**more: Any) -> JSON:
    return {"type": "string", **more}


def _whole(least: int = 0, most: int = 999, **more: Any) -> JSON:
    return {"type": "integer", "minimum": least, "maximum": most, **more}


def _number(**more: Any) -> JSON:
    return {"type": "number", **more}


def _array(items: JSON, **more: Any) -> JSON:
    return {"type": "array", "items": items, **more}


def _object(properties: JSON, **more: Any) -> JSON:
    """An object that has exactly these properties."""
    closed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": properties, **closed, **more}


INTEGER = _whole()
COLOUR = _text(enum=["red", "green"])
GREEN = {"const": "green"}
NULL = {"type": "null"}

# A feature in the schema of one value, and a value without it. Both become the property "value" of
# an object, because OpenAI takes only objects. Bounds keep the answers short.
_VALUES: list[tuple[str, str, JSON, object]] = [
    ("type_string", "type", _text(maxLength=8), True),
    ("type_integer", "type", {"type": "integer"}, "seven"),
    ("type_integer_fraction", "type", {"type": "integer"}, 1.5),
    ("type_number", "type", _number(), "seven"),
    ("type_boolean", "type", {"type": "boolean"}, "yes"),
    ("type_null", "type", NULL, "none"),
    ("type_array", "type", _array(COLOUR, maxItems=2), "red"),
    ("type_object", "type", _object({"colour": COLOUR}), "red"),
    ("type_list", "type", {"type": ["boolean", "null"]}, "maybe"),
    ("enum", "enum", COLOUR, "blue"),
    ("enum_mixed", "enum", {"enum": [1, "one", None, True]}, "two"),
    ("enum_unicode", "enum", _text(enum=["Zürich", "東京"]), "Basel"),
    ("enum_large", "enum", _text(enum=[f"item-{n}" for n in range(100, 300)]), "item-500"),
    ("const", "const", {"const": "yes"}, "no"),
    ("const_escapes", "const", {"const": 'a "quoted" \\ word'}, "a quoted word"),
    ("min_length", "minLength", _text(minLength=8, maxLength=10), "hi"),
    ("max_length", "maxLength", _text(maxLength=3), "elephant"),
    ("max_length_unicode", "maxLength", _text(maxLength=3), "äöüäöü"),
    ("pattern", "pattern", _text(pattern="^[0-9]{3}$"), "abc"),
    ("pattern_alternatives", "pattern", _text(pattern="^(cat|dog)-[a-c]$"), "bird-a"),
    ("pattern_unanchored", "pattern:unanchored", _text(pattern="[0-9]"), "abc"),
    ("format_date", "format:date", _text(format="date"), "tomorrow"),
    ("format_time", "format:time", _text(format="time"), "noon"),
    ("format_date_time", "format:date-time", _text(format="date-time"), "today"),
    ("format_duration", "format:duration", _text(format="duration"), "two days"),
    ("format_email", "format:email", _text(format="email"), "ada@home.org, bob@home.org"),
    ("format_hostname", "format:hostname", _text(format="hostname"), "not a host"),
    ("format_ipv4", "format:ipv4", _text(format="ipv4"), "localhost"),
    ("format_ipv6", "format:ipv6", _text(format="ipv6"), "localhost"),
    ("format_uri", "format:uri", _text(format="uri"), "https://example.org and more"),
    ("format_uuid", "format:uuid", _text(format="uuid"), "12345"),
    ("minimum", "minimum", _whole(10, 99), 3),
    ("minimum_negative", "minimum", _whole(-5, 5), -77),
    ("minimum_big", "minimum", _whole(10_000_000_000, 99_999_999_999), 5),
    ("maximum", "maximum", _whole(0, 10), 99),
    (
        "exclusive_minimum",
        "exclusiveMinimum",
        {"type": "integer", "exclusiveMinimum": 10, "maximum": 99},
        10,
    ),
    (
        "exclusive_maximum",
        "exclusiveMaximum",
        {"type": "integer", "minimum": 0, "exclusiveMaximum": 10},
        10,
    ),
    ("minimum_number", "minimum:number", _number(minimum=0.5), 0.1),
    ("maximum_number", "maximum:number", _number(maximum=0.5), 7.5),
    ("exclusive_minimum_number", "exclusiveMinimum:number", _number(exclusiveMinimum=0), 0),
    ("exclusive_maximum_number", "exclusiveMaximum:number", _number(exclusiveMaximum=1), 1),
    ("multiple_of", "multipleOf", _whole(multipleOf=5), 7),
    ("multiple_of_number", "multipleOf:number", _number(multipleOf=0.5), 1.3),
    ("items", "items", _array(INTEGER, minItems=1, maxItems=2), ["red"]),
    ("items_array", "type", _array(_array(INTEGER, maxItems=2), maxItems=2), ["red", "green"]),
    ("items_object", "enum", _array(_object({"colour": COLOUR}), maxItems=2), [{"colour": "blue"}]),
    (
        "items_false",
        "items:false",
        {"type": "array", "prefixItems": [INTEGER], "items": False},
        [1, 2, 3],
    ),
    (
        "prefix_items",
        "prefixItems",
        {"type": "array", "prefixItems": [INTEGER, COLOUR], "minItems": 2, "maxItems": 2},
        ["red", 7],
    ),
    ("min_items", "minItems", _array(COLOUR, minItems=3, maxItems=4), ["red"]),
    ("max_items", "maxItems", _array(COLOUR, maxItems=2), ["red", "red", "red"]),
    ("max_items_zero", "maxItems", _array(COLOUR, maxItems=0), ["red"]),
    ("unique_items", "uniqueItems", _array(COLOUR, uniqueItems=True, maxItems=2), ["red", "red"]),
    ("contains", "contains", _array(COLOUR, contains=GREEN, maxItems=3), ["red", "red"]),
    (
        "min_contains",
        "minContains",
        _array(COLOUR, contains=GREEN, minContains=2, maxItems=3),
        ["red", "green"],
    ),
    (
        "max_contains",
        "maxContains",
        _array(COLOUR, contains=GREEN, maxContains=1, maxItems=3),
        ["green", "green"],
    ),
    ("any_of", "anyOf", {"anyOf": [INTEGER, {"type": "boolean"}]}, "both"),
    ("any_of_nullable", "anyOf", {"anyOf": [COLOUR, NULL]}, "none"),
    ("one_of", "oneOf", {"oneOf": [_whole(0, 10), _whole(5, 20)]}, 7),
    (
        "all_of",
        "allOf",
        {"allOf": [_text(enum=["red", "blue"]), {"enum": ["red", "pink"]}]},
        "blue",
    ),
    ("not", "not", _text(**{"not": {"const": "no"}}), "no"),
    ("not_enum", "not", _whole(1, 9, **{"not": {"enum": [3, 7]}}), 7),
]

_OPTIONAL: JSON = {
    "type": "object",
    "properties": {"a": INTEGER, "b": INTEGER},
    "additionalProperties": False,
}
_SIZED = _object({"kind": COLOUR, "size": INTEGER})
_IF_RED: JSON = {"properties": {"kind": {"const": "red"}}}
_SIZE_1: JSON = {"properties": {"size": {"const": 1}}}
_PETS = [
    _object({"kind": {"const": "cat"}, "lives": INTEGER}),
    _object({"kind": {"const": "dog"}, "colour": COLOUR}),
]
_MIXED_PET: JSON = {"pet": {"kind": "cat", "colour": "red"}}
_NODE = _object({"name": COLOUR, "next": {"anyOf": [{"$ref": "#/$defs/node"}, NULL]}})
_TREE = _object({"name": COLOUR, "children": _array({"$ref": "#/$defs/tree"}, maxItems=1)})


def _nested(leaf: JSON, depth: int) -> JSON:
    return _object({"in": _nested(leaf, depth - 1)}) if depth else leaf


def _nested_value(leaf: object, depth: int) -> Any:
    return {"in": _nested_value(leaf, depth - 1)} if depth else leaf


# A feature in the schema of an object, and an object without it.
_OBJECTS: list[tuple[str, str, JSON, JSON]] = [
    ("properties", "type", _object({"a": INTEGER, "b": COLOUR}), {"a": "one", "b": "red"}),
    ("properties_optional", "type", {**_OPTIONAL, "required": ["a"]}, {"a": 1, "b": "two"}),
    (
        "properties_order",
        ORDER,
        _object({"zeta": INTEGER, "alpha": INTEGER}),
        {"alpha": 1, "zeta": 2},
    ),
    ("required", "required", {**_OPTIONAL, "required": ["a", "b"]}, {"a": 1}),
    ("required_unicode", "required", _object({"größe": INTEGER, "名前": COLOUR}), {"größe": 1}),
    ("additional_properties", "additionalProperties", _object({"a": INTEGER}), {"a": 1, "b": 2}),
    ("additional_properties_empty", "additionalProperties", _object({}), {"a": 1}),
    (
        "additional_properties_schema",
        "additionalProperties:schema",
        {"type": "object", "additionalProperties": INTEGER, "minProperties": 1},
        {"a": "one"},
    ),
    (
        "pattern_properties",
        "patternProperties",
        {"type": "object", "patternProperties": {"^n": INTEGER}},
        {"n1": "one"},
    ),
    ("min_properties", "minProperties", {**_OPTIONAL, "minProperties": 2}, {"a": 1}),
    ("max_properties", "maxProperties", {**_OPTIONAL, "maxProperties": 1}, {"a": 1, "b": 2}),
    (
        "property_names",
        "propertyNames",
        {
            "type": "object",
            "additionalProperties": INTEGER,
            "propertyNames": {"enum": ["one", "two"]},
        },
        {"three": 3},
    ),
    (
        "dependent_required",
        "dependentRequired",
        {**_OPTIONAL, "dependentRequired": {"a": ["b"]}},
        {"a": 1},
    ),
    (
        "dependent_schemas",
        "dependentSchemas",
        {**_OPTIONAL, "dependentSchemas": {"a": {"properties": {"b": {"const": 5}}}}},
        {"a": 1, "b": 2},
    ),
    (
        "all_of_objects",
        "allOf",
        {
            "type": "object",
            "allOf": [
                {"properties": {"a": INTEGER}, "required": ["a"]},
                {"properties": {"b": INTEGER}, "required": ["b"]},
            ],
        },
        {"a": 1},
    ),
    ("if_then", "if", {**_SIZED, "if": _IF_RED, "then": _SIZE_1}, {"kind": "red", "size": 7}),
    ("if_else", "if", {**_SIZED, "if": _IF_RED, "else": _SIZE_1}, {"kind": "green", "size": 7}),
    ("any_of_tagged", "anyOf", _object({"pet": {"anyOf": _PETS}}), _MIXED_PET),
    ("one_of_tagged", "oneOf:exclusive", _object({"pet": {"oneOf": _PETS}}), _MIXED_PET),
    (
        "ref",
        "$ref",
        _object({"colour": {"$ref": "#/$defs/colour"}}, **{"$defs": {"colour": COLOUR}}),
        {"colour": "blue"},
    ),
    (
        "ref_recursive_list",
        "$ref",
        _object({"list": {"$ref": "#/$defs/node"}}, **{"$defs": {"node": _NODE}}),
        {"list": {"name": "red", "next": {"name": "blue", "next": None}}},
    ),
    (
        "ref_recursive_tree",
        "$ref",
        _object({"tree": {"$ref": "#/$defs/tree"}}, **{"$defs": {"tree": _TREE}}),
        {"tree": {"name": "red", "children": [{"name": "blue", "children": []}]}},
    ),
    ("nested", "enum", _nested(COLOUR, 3), _nested_value("blue", 3)),
    ("nested_deep", "maximum", _nested(_whole(0, 10), 6), _nested_value(77, 6)),
]

SCHEMA_FEATURES = (
    *(SchemaFeature(i, f, _object({"value": s}), {"value": v}) for i, f, s, v in _VALUES),
    *(SchemaFeature(i, f, s, v) for i, f, s, v in _OBJECTS),
)
"""The rows of the matrix, in the order of reports."""
