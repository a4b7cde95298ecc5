"""Checks of struct.matrix: each feature of JSON schemas is enforced, ignored or refused."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import answered, choice, content, message
from pytest_llmengine.contract.facts import FORMAT_DROPPED, SCHEMA_DROPPED, either
from pytest_llmengine.contract.outcomes import Ignored, Refused, Unmeasured, quote
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, OPTIONAL, check
from pytest_llmengine.contract.samples import COLOUR, COLOUR_SCHEMA, constrained_to
from pytest_llmengine.contract.schema_features import GROUP, ORDER, SCHEMA_FEATURES

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.schema_features import SchemaFeature
    from pytest_llmengine.contract.target import Target

_NOT_JSON = object()
_SEEDS = (1, 2, 3)
_NEEDED = 2  # whole answers; the token cap may cut the others
_TOKENS = 64
# Two turns show a small model what to do.
_TURNS = [
    turn
    for example in ('{"city": "Paris"}', '{"numbers": [4, 5], "good": false}')
    for turn in (
        {"role": "user", "content": f"Repeat this JSON: {example}"},
        {"role": "assistant", "content": example},
    )
]
# What OpenAI's guide "Structured outputs" lists in its section "Supported schemas".
_OF_OPENAI = frozenset(
    {
        *("type", "enum", "const", "anyOf", "$ref", "required", "additionalProperties", ORDER),
        *("items", "minItems", "maxItems", "pattern", "pattern:unanchored"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minimum:number", "maximum:number", "multipleOf:number"),
        *("exclusiveMinimum:number", "exclusiveMaximum:number"),
        *("format:date", "format:time", "format:date-time", "format:duration", "format:email"),
        *("format:hostname", "format:ipv4", "format:ipv6", "format:uuid"),
    }
)
_IN_CORE = frozenset({"type_integer", "enum", "required", "additional_properties", "any_of", "ref"})


def _rule(feature: SchemaFeature, target: Target) -> None:
    """Ask for the violation under the schema, and without the feature until it is shown."""
    whole = [v for seed in _SEEDS if (v := _answer(feature, target, seed)) is not _NOT_JSON]
    if len(whole) < _NEEDED:
        raise Unmeasured(f"the token cap cut {len(_SEEDS) - len(whole)} of {len(_SEEDS)} answers")
    for seed in _SEEDS:
        reply = _ask(feature, target, seed, feature.relaxed)
        if not reply.ok:
            raise Unmeasured(f"the schema without it gets a {reply.status}: {quote(reply.text)}")
        text = content(answered(reply.success()))
        if feature.is_broken_by(_parsed(text)):
            return
    raise Unmeasured(
        "this model cannot show it: without the feature it does not write "
        f"{quote(feature.violation)} but {quote(text)}"
    )


def _answer(feature: SchemaFeature, target: Target, seed: int) -> object:
    """An answer that fits the schema, or _NOT_JSON if it was cut; the check ends for any other."""
    reply = _ask(feature, target, seed, feature.schema)
    if reply.is_refusal:
        _end_as_refused(feature, target, reply)
    body = answered(reply.success())
    text = content(body)
    value = _parsed(text)
    if value is _NOT_JSON and choice(body).get("finish_reason") == "length":
        return _NOT_JSON
    if message(body).get("refusal"):
        raise Unmeasured(f"the model refuses to answer: {quote(message(body)['refusal'])}")
    if value is _NOT_JSON and not text.strip():
        raise Unmeasured("this model cannot show it: its answer has no text")
    if value is _NOT_JSON:
        reason = f"a schema is accepted, and the answer is not JSON: {quote(text)}"
        raise Ignored(reason, fact=FORMAT_DROPPED)
    if feature.is_broken_by(value):
        what = _BROKEN.get(feature.feature, feature.feature)
        reason = f"{what} is accepted and not enforced: {quote(text)}"
        raise Ignored(reason, fact=_cause(feature, target))
    if not feature.fits(value):
        raise Unmeasured(f"the answer breaks another part of the schema: {quote(text)}")
    return value


# Where a server may enforce a part of a feature, the part that the answer breaks.
_BROKEN = {"oneOf": "that only one choice of oneOf fits"}


def _ask(feature: SchemaFeature, target: Target, seed: int, schema: dict[str, Any] | None) -> Reply:
    wanted = json.dumps(feature.violation, ensure_ascii=False)
    return target.chat(
        [*_TURNS, {"role": "user", "content": f"Repeat this JSON: {wanted}"}],
        temperature=1,
        seed=seed,
        max_tokens=_TOKENS,
        response_format=... if schema is None else constrained_to(schema),
    )


def _cause(feature: SchemaFeature, target: Target) -> str:
    """Why the feature is ignored: by itself, or because a simple schema is dropped too.

    If the answer to the simple schema has its key and another value, both are possible.
    """
    ignored = f"{_family(feature)}: ignored"
    value = _parsed(content(_ask(feature, target, _SEEDS[0], COLOUR_SCHEMA).success()))
    if value == COLOUR:
        return ignored
    if not isinstance(value, dict):
        return FORMAT_DROPPED
    return either(ignored, SCHEMA_DROPPED) if value.keys() == COLOUR.keys() else SCHEMA_DROPPED


def _parsed(text: str) -> object:
    """The JSON value of a text; _NOT_JSON if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _end_as_refused(feature: SchemaFeature, target: Target, reply: Reply) -> NoReturn:
    """End as refused; if the server refuses every schema, all rules of the matrix say the same."""
    plain = _ask(feature, target, _SEEDS[0], COLOUR_SCHEMA)
    if plain.is_refusal:
        said = f"JSON schemas are refused: {plain.status} {quote(plain.error_message)}"
        raise Refused(said, fact="JSON schemas are refused")
    raise Refused(
        f"a schema with {feature.feature} is refused: {reply.status} {quote(reply.error_message)}",
        fact=f"{_family(feature)}: refused",
    )


def _family(feature: SchemaFeature) -> str:
    """The features that a server supports together, if there are several."""
    return next(
        (name for name, members in _FAMILIES if feature.feature in members), feature.feature
    )


_FAMILIES = (
    ("contains and its limits", {"contains", "minContains", "maxContains"}),
    ("dependencies", {"dependentRequired", "dependentSchemas"}),
    ("formats", {row.feature for row in SCHEMA_FEATURES if row.keyword == "format"}),
    (
        "limits of numbers",
        {
            *("minimum:number", "maximum:number"),
            *("exclusiveMinimum:number", "exclusiveMaximum:number"),
        },
    ),
    ("multiples", {"multipleOf", "multipleOf:number"}),
    ("the number of properties", {"minProperties", "maxProperties"}),
)


for _feature in SCHEMA_FEATURES:
    _of_openai = _feature.feature in _OF_OPENAI
    _sources = [f"json-schema 2020-12: {_feature.keyword}"]
    if _of_openai:
        _sources.append("OpenAI docs: guides/structured-outputs, supported schemas")
    check(
        f"{GROUP}.{_feature.id}",
        group=GROUP,
        level=EXPECTED if _of_openai else OPTIONAL,
        tier=CORE if _feature.id in _IN_CORE else EXTENDED,
        source="; ".join(_sources),
        needs={Capability.JSON_SCHEMA},
        title=_feature.title,
        breaks=f"Code that relies on {_feature.feature} reads an answer that breaks it.",
        since="2026-11-27",
    )(partial(_rule, _feature))
