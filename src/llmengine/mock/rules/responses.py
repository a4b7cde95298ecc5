"""Rules for the fields of the responses API that say how a response is made and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock import specification as spec
from llmengine.mock.json_fields import mapping
from llmengine.mock.rules.base import (
    Problem,
    Rule,
    check_type,
    first_problem,
    missing,
    one_of,
    wrong_type,
)
from llmengine.mock.rules.fields import RESPONSE, value_rules

if TYPE_CHECKING:
    from llmengine.mock.json_fields import Body
    from llmengine.mock.rules.base import Finder, ModelLimits

_MOST_METADATA = 16


def _inner(field: str, key: str) -> Finder:
    """The key of an object, if it is a string, must be one of the values in the specification."""
    path = f"{field}.{key}"
    allowed = spec.enum(f"{RESPONSE}.{path}")

    def find(body: Body, limits: ModelLimits) -> Problem | None:
        return one_of(path, allowed)({path: mapping(body.get(field)).get(key)}, limits)

    return find


def _metadata(body: Body, limits: ModelLimits) -> Problem | None:
    metadata = mapping(body.get("metadata"))
    if len(metadata) > _MOST_METADATA:
        message = f"Invalid 'metadata': too many properties; the most are {_MOST_METADATA}."
        return Problem(message, "metadata", "object_above_max_properties")
    return first_problem(check_type(f"metadata.{k}", "a string", v) for k, v in metadata.items())


def _prompt(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("prompt") is None:
        return None
    if (name := mapping(body.get("prompt")).get("id")) is None:
        return missing("prompt.id")
    return Problem(f"Prompt with id '{name}' not found.", "prompt", "prompt_not_found", 404)


def _not_supported(field: str) -> Finder:
    def find(body: Body, limits: ModelLimits) -> Problem | None:
        if body.get(field) is None:
            return None
        message = f"Unsupported parameter: '{field}' is not supported with this model."
        return Problem(message, field, "unsupported_parameter")

    return find


def _stream_options(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("stream_options") is None or body.get("stream") is True:
        return None
    message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    return Problem(message, "stream_options")


def _background(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("background") is not True or body.get("store") is not False:
        return None
    return Problem("Background mode requires 'store' to be true.", "background")


def _conversation_type(body: Body, limits: ModelLimits) -> Problem | None:
    given = body.get("conversation")
    if given is None or isinstance(given, str):
        return None
    if not isinstance(given, dict):
        return wrong_type("conversation", "a string or an object", given)
    return check_type("conversation.id", "a string", given.get("id"))


def _two_histories(body: Body, limits: ModelLimits) -> Problem | None:
    if body.get("conversation") is None or body.get("previous_response_id") is None:
        return None
    message = "'previous_response_id' cannot be used together with 'conversation'."
    return Problem(message, "previous_response_id")


RESPONSE_FIELD_RULES = (
    Rule("resp.wrong_type", _conversation_type),
    *value_rules(
        RESPONSE,
        {
            "resp.invalid.truncation": "truncation",
            "resp.invalid.service_tier": "service_tier",
            "resp.invalid.cache_retention": "prompt_cache_retention",
            "resp.invalid.include": "include",
        },
    ),
    Rule("resp.invalid.verbosity", _inner("text", "verbosity")),
    Rule("resp.invalid.summary", _inner("reasoning", "summary")),
    Rule("resp.invalid.metadata", _metadata),
    Rule("resp.invalid.prompt", _prompt),
    Rule("resp.invalid.stream_options", _stream_options),
    Rule("resp.background.store", _background),
    Rule("resp.conversation.exclusive", _two_histories),
    Rule("resp.context_management", _not_supported("context_management")),
    Rule("resp.moderation", _not_supported("moderation")),
)
