"""The generated mutants that may survive, with the reason: they do not break the specification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from llmengine.mock import specification
from llmengine.mock.json_fields import items, mapping
from pytest_llmengine.contract.surface import ITEMS

if TYPE_CHECKING:
    from pytest_llmengine.contract.mutations import Mutation
    from pytest_llmengine.contract.surface import Place


class Acceptance(NamedTuple):
    """Why mutants are accepted whose place and operator fit these regular expressions.

    If it is for an ``optional`` field, the specification must not require the field.
    """

    places: str
    operators: str
    reason: str
    optional: bool = False


_OPAQUE = "first half|twice|another|empty"
ACCEPTED = (
    Acceptance(
        r"POST /chat/completions.*\.reasoning",
        ".*",
        "OpenAI's chat has no reasoning in its messages.",
    ),
    Acceptance(
        r"(POST|GET) \S+completions\S*( stream)?( \w+)? (system_fingerprint|service_tier)",
        f"dropped|null|{_OPAQUE}",
        "The field is optional, and its value means nothing to a client.",
    ),
    Acceptance(
        r"POST (?!.*(previous_response_id|conversation\.id)).*(id|item_id|call_id)",
        "first half|twice",
        "An id that the server has made is any text that is unique.",
    ),
    Acceptance(
        r"POST .*(tool_calls\[\]\.id|output\[\]\.call_id)",
        "another",
        "The id of a single call in an answer is any text.",
    ),
    Acceptance(r"(?!.* stream ).*created(_at)?", "one more|one less", "Clocks differ by a second."),
    Acceptance(
        r"POST /completions stream .*created",
        "one more|one less",
        "Only chunks of chat completions must all have the same time.",
    ),
    Acceptance(
        r"POST .*(cached_tokens|cache_write_tokens|reasoning_tokens|audio_tokens)",
        "one more",
        "It cannot be seen from outside how many tokens were of this sort.",
    ),
    Acceptance(
        r"POST \S+ (choices|choices\[\]\.message\.tool_calls)",
        "reversed",
        "Choices have an index, and parallel calls have no order.",
    ),
    Acceptance(
        r"POST /chat/completions choices\[\]\.message\.content",
        "trimmed",
        "White space at the end of a text cannot be told from a text without it.",
    ),
    Acceptance(
        r"(POST|GET) /chat/completions\S* choices\[\]\.message\.annotations",
        "dropped",
        "The field is optional, and the list was empty.",
        optional=True,
    ),
    Acceptance(
        r"POST /completions usage",
        "dropped|null",
        "The field is optional, and examples of OpenAI have null there.",
        optional=True,
    ),
    Acceptance(
        r"POST /chat/completions stream tool .*\.custom.*",
        ".*",
        "The specification has no custom tools in the chunks of a stream.",
    ),
    Acceptance(
        r"DELETE /responses/\{response_id\} object",
        ".*",
        "The specification has no schema for this answer.",
    ),
    Acceptance(r"POST /responses.*tools", "reversed", "Tools have no order."),
    Acceptance(
        r"POST \S+completions stream .*choices\[\]\.(logprobs|delta\.content|delta\.refusal)",
        "dropped|null|as object",
        "A delta without text may leave out the field, or say null.",
    ),
    Acceptance(
        r"POST /completions stream .*obfuscation",
        ".*",
        "The specification does not have the field in the chunks of text completions.",
    ),
    Acceptance(
        r"POST \S+ stream .*obfuscation",
        f"dropped|null|{_OPAQUE}",
        "The characters are random on purpose, and an event may have none.",
    ),
    Acceptance(
        r"POST /responses.* (.*\.)?encrypted_content", ".*", "Only the server can read the text."
    ),
    Acceptance(
        r"POST /responses stream response\.output_text\.\S+ logprobs\[\].*\.bytes.*",
        ".*",
        "The schema of these events has no bytes.",
    ),
    Acceptance(
        r"(POST|GET) /responses.*",
        "dropped",
        "The specification does not require the field.",
        optional=True,
    ),
    Acceptance(r"error error\.message", ".*", "The message is free text for people."),
    Acceptance(
        r"error error\.(code|param)",
        "null|as text",
        "The schema allows null and any text; OpenAI's values are not in the schema.",
    ),
)
"""The first row that fits a mutant gives its reason."""


def reason_to_accept(mutation: Mutation) -> str:
    """Why no rule has to notice this mutant; "" if one has to."""
    place = str(mutation.place)
    for row in ACCEPTED:
        if (
            re.fullmatch(row.places, place)
            and re.fullmatch(row.operators, mutation.operator)
            and (not row.optional or is_optional(mutation.place))
        ):
            return row.reason
    return ""


def is_optional(place: Place) -> bool:
    """Whether no form of the answer, or of the event, requires the field at this place."""
    operation = place.kind.removesuffix(" stream")
    if place.part:
        forms = specification.alternatives(specification.event_schema(operation))
        found = [one for one in forms if place.part in _types(one)]
    else:
        found = list(specification.alternatives(specification.response_schema(operation)))
    *path, name = place.path
    for step in path:
        inner = [_below(schema, step) for schema in found]
        found = [a for one in inner for a in specification.alternatives(one)]
    return not any(name in specification.required(schema) for schema in found)


def _types(event: specification.Schema) -> tuple[object, ...]:
    named = specification.properties(event).get("type", {})
    return (*items(named.get("enum")), named.get("const"))


def _below(schema: specification.Schema, step: str) -> specification.Schema:
    if step == ITEMS:
        return mapping(schema.get("items"))
    return mapping(specification.properties(schema).get(step))
