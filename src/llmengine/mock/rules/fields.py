"""Rules made from OpenAI's specification: the types, bounds and enums of the fields of a request.

A field of the specification that the mock does not play is refused too, so that no request is
answered as if a part of it were not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmengine.mock import specification as spec
from llmengine.mock.json_fields import integer, items, mapping, text
from llmengine.mock.rules.base import (
    Problem,
    Rule,
    check_one_of,
    check_range,
    check_type,
    first_problem,
    missing,
    objects,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sized

    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import Finder, ModelLimits

CHAT = "CreateChatCompletionRequest"
COMPLETION = "CreateCompletionRequest"
EMBEDDING = "CreateEmbeddingRequest"
RESPONSE = "CreateResponse"
_MAX_BIAS = 100

_NAMES = {
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}


# ---- what the mock plays

# The fields that the mock plays, or refuses by rules of their own. Any other field of the
# specification must be null or left out.
PLAYED = {
    CHAT: """
        frequency_penalty logit_bias logprobs max_completion_tokens max_tokens messages metadata
        modalities model n parallel_tool_calls presence_penalty prompt_cache_key
        prompt_cache_options prompt_cache_retention reasoning_effort response_format
        safety_identifier seed service_tier stop store stream stream_options temperature tool_choice
        tools top_logprobs top_p user verbosity
        """,
    COMPLETION: """
        best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty
        prompt seed stop stream stream_options suffix temperature top_p user
        """,
    EMBEDDING: "dimensions encoding_format input model user",
    RESPONSE: """
        background context_management conversation include input instructions max_output_tokens
        max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt
        prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier
        service_tier store stream stream_options temperature text tool_choice tools top_logprobs
        top_p truncation user
        """,
}
# The values that the mock plays at some paths, besides null.
PLAYED_VALUES: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    CHAT: {
        "messages[].audio": (),
        "messages[].content[].type": ("text", "refusal"),
        "modalities[]": ("text",),
    },
    RESPONSE: {
        "include[]": ("message.output_text.logprobs", "reasoning.encrypted_content"),
        "input[].content[].type": ("input_text", "output_text", "refusal", "text"),
        "input[].output[].type": ("input_text", "output_text", "text"),
        "reasoning.generate_summary": (),
    },
}


def not_played(schema: str) -> Finder:
    """The request must not ask for what the mock does not play, so that nothing is ignored."""
    unknown = sorted(_fields(schema, PLAYED[schema]))
    played = dict.fromkeys(unknown, ()) | dict(PLAYED_VALUES.get(schema, {}))

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return first_problem(
            _unsupported(path, value)
            for template, values in played.items()
            for path, value in _at(body, template)
            if value is not None and value not in values
        )

    return find


def _unsupported(path: str, value: object) -> Problem:
    if path.endswith(".type"):
        message = f"Invalid content type. {value} is only supported by certain models."
        return Problem(message, path)
    message = f"Unsupported parameter: '{path}' is not supported with this model."
    return Problem(message, path, "unsupported_parameter")


def _at(value: object, template: str, path: str = "") -> Iterator[tuple[str, object]]:
    """The values at a path such as ``messages[].role``, each with its own path."""
    first, _, rest = template.partition(".")
    name = first.removesuffix("[]")
    if not isinstance(value, dict) or name not in value:
        return
    path = f"{path}.{name}" if path else name
    found = [(path, value[name])]
    if first != name:
        found = [(f"{path}[{i}]", item) for i, item in enumerate(items(value[name]))]
    for inner, item in found:
        if rest:
            yield from _at(item, rest, inner)
        else:
            yield inner, item


# ---- types, bounds and enums


def types_of(schema: str, *, without: str) -> Finder:
    """Each field must have one of its JSON types; the fields in `without` have other rules."""
    fields = _fields(schema, without)

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        given = ((f, options, body[f]) for f, options in fields.items() if body.get(f) is not None)
        return first_problem(_type_problem(f, value, options) for f, options, value in given)

    return find


def values_of(schema: str, *, only: str = "", without: str = "") -> Finder:
    """Each field that has its JSON type must fit the specification, with all that is in it."""
    fields = _fields(schema, without)
    wanted = only.split() or list(fields)

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        given = ((f, fields[f], body[f]) for f in wanted if body.get(f) is not None)
        return first_problem(
            _problem(f, value, options)
            for f, options, value in given
            if not _type_problem(f, value, options)
        )

    return find


def message_fields(without: str) -> Finder:
    """The fields of each message, except those that have other rules, must fit its role."""
    messages = spec.at(f"{CHAT}.messages[]")

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return first_problem(
            _problem(f"{path}.{name}", message[name], list(spec.alternatives(inner)))
            for path, message in objects(body, "messages")
            for schema in messages
            if message.get("role") in _kinds(schema, "role")
            for name, inner in spec.properties(schema).items()
            if name in message and name not in without.split()
        )

    return find


def value_rules(schema: str, named: Mapping[str, str]) -> tuple[Rule, ...]:
    """Rules for the values of some fields, by the names of the rules."""
    return tuple(Rule(name, values_of(schema, only=only)) for name, only in named.items())


Options = Sequence[spec.Schema]


def _fields(schema: str, without: str = "") -> dict[str, Options]:
    """The fields of a request with the schemas that each value may have, except `without`."""
    every = spec.properties({"$ref": f"#/$defs/{schema}"})
    return {f: list(spec.alternatives(s)) for f, s in every.items() if f not in without.split()}


def _type_problem(field: str, value: object, options: Options) -> Problem | None:
    kinds = [_NAMES[kind] for schema in options for kind in sorted(spec.types(schema) - {"null"})]
    if not kinds or any(check_type(field, kind, value) is None for kind in kinds):
        return None
    return wrong_type(field, " or ".join(dict.fromkeys(kinds)), value)


def _problem(field: str, value: object, options: Options) -> Problem | None:
    """The first way in which a value fits none of the schemas; null fits all of them."""
    if value is None:
        return None
    if problem := _type_problem(field, value, options):
        return problem
    possible = [s for s in options if not _type_problem(field, value, [s])]
    for key in ("type", "role"):
        if problem := _kind_problem(field, value, key, possible):
            return problem
        possible = [s for s in possible if _is_kind(value, key, s)]
    problems = [_problem_in(field, value, schema) for schema in possible]
    return None if None in problems else problems[-1]


def _kinds(schema: spec.Schema, key: str) -> list[object]:
    return items(mapping(spec.properties(schema).get(key)).get("enum"))


def _is_kind(value: object, key: str, schema: spec.Schema) -> bool:
    kinds = _kinds(schema, key)
    return not kinds or mapping(value).get(key, kinds[0]) in kinds


def _kind_problem(field: str, value: object, key: str, options: Options) -> Problem | None:
    """The problem of an object that is of none of the kinds in a union."""
    if any(_is_kind(value, key, schema) for schema in options):
        return None
    kinds = [text(kind) for schema in options for kind in _kinds(schema, key)]
    return check_one_of(f"{field}.{key}", mapping(value).get(key), kinds)


def _problem_in(field: str, value: object, schema: spec.Schema) -> Problem | None:
    """The first way in which a value of the right type does not fit a schema."""
    if isinstance(value, dict):
        return _object_problem(field, value, schema)
    if isinstance(value, list):
        options = list(spec.alternatives(mapping(schema.get("items"))))
        inner = (_problem(f"{field}[{i}]", item, options) for i, item in enumerate(value))
        return _length_problem(field, value, "array", schema) or first_problem(inner)
    if isinstance(value, str):
        allowed = [text(one) for one in items(schema.get("enum"))]
        problem = check_one_of(field, value, allowed) if allowed else None
        return problem or _length_problem(field, value, "string", schema)
    low, high = spec.limits(schema)
    return check_range(field, value, -math.inf if low is None else low, high)


def _object_problem(field: str, value: Body, schema: spec.Schema) -> Problem | None:
    for name in spec.required(schema):
        if name not in value:
            return missing(f"{field}.{name}")
    known = spec.properties(schema)
    other = mapping(schema.get("additionalProperties"))
    return first_problem(
        _problem(f"{field}.{name}", inner, list(spec.alternatives(known.get(name, other))))
        for name, inner in value.items()
    )


def _length_problem(field: str, value: Sized, kind: str, schema: spec.Schema) -> Problem | None:
    noun, keyword = ("an array", "Items") if kind == "array" else ("a string", "Length")
    least = integer(schema.get(f"min{keyword}"))
    most = integer(schema.get(f"max{keyword}"))
    count = len(value)
    if least is not None and count < least:
        wrong, bound, code = "short", f"minimum length {least}", f"{kind}_below_min_length"
    elif most is not None and count > most:
        wrong, bound, code = "long", f"maximum length {most}", f"{kind}_above_max_length"
    else:
        return None
    message = (
        f"Invalid '{field}': {kind} too {wrong}. Expected {noun} with {bound}, "
        f"but got {noun} with length {count} instead."
    )
    return Problem(message, field, code)


# ---- rules that chat and text completions share


def sampling_rules(group: str, schema: str) -> tuple[Rule, ...]:
    """The ranges of the sampling parameters, the stop sequences and the options of a stream."""
    return (
        *value_rules(
            schema,
            {
                f"{group}.temperature.range": "temperature",
                f"{group}.top_p.range": "top_p",
                f"{group}.penalties.range": "presence_penalty frequency_penalty",
                f"{group}.n.range": "n",
            },
        ),
        Rule(f"{group}.stop.nonstring", _stop_nonstring),
        Rule(f"{group}.stop.max4", _stop_length(schema)),
        Rule(f"{group}.logit_bias.range", _logit_bias),
        Rule(f"{group}.stream_options.without_stream", _stream_options),
    )


def _stop_nonstring(body: Body, limits: ModelLimits) -> Problem | None:
    stop = body.get("stop")
    listed = stop if isinstance(stop, list) else [stop]
    if stop is None or all(isinstance(s, str) for s in listed):
        return None
    return Problem("Invalid type for 'stop': expected strings.", "stop", "invalid_type")


def _stop_length(schema: str) -> Finder:
    (array,) = (s for s in spec.at(f"{schema}.stop") if "array" in spec.types(s))

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        stop = body.get("stop")
        return _length_problem("stop", stop, "array", array) if isinstance(stop, list) else None

    return find


def _logit_bias(body: Body, limits: ModelLimits) -> Problem | None:
    for token, value in mapping(body.get("logit_bias")).items():
        field = f"logit_bias.{token}"
        problem = None if value is None else check_type(field, "a number", value)
        if problem := problem or check_range(field, value, -_MAX_BIAS, _MAX_BIAS):
            return problem
    return None


def _stream_options(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("stream_options") is None or body.get("stream") is True:
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return Problem(message, "stream_options", None)
