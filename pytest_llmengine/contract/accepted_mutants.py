"""The generated mutants that may survive, with the reason: they do not break the specification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_llmengine.contract.mutations import Mutation


class Acceptance(NamedTuple):
    """Why mutants are accepted whose place and operator fit these regular expressions."""

    places: str
    operators: str
    reason: str


_OPAQUE = "first half|twice|another|empty"
ACCEPTED = (
    Acceptance(r"POST .*reasoning", ".*", "OpenAI's chat has no reasoning in its messages."),
    Acceptance(
        r"POST \S+completions.* (system_fingerprint|service_tier)",
        f"dropped|null|{_OPAQUE}",
        "The field is optional, and its value means nothing to a client.",
    ),
    Acceptance(
        r"POST .*(id|item_id|call_id)", "first half|twice", "An id is any text that is unique."
    ),
    Acceptance(
        r"POST .*tool_calls\[\]\.id", "another", "The id of a single call in an answer is any text."
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
        r"POST /chat/completions choices\[\]\.message\.annotations",
        "dropped",
        "The field is optional.",
    ),
    Acceptance(
        r"POST \S+completions stream .*choices\[\]\.(logprobs|delta\.content|delta\.refusal)",
        "dropped|null|as object",
        "A delta without text may leave out the field, or say null.",
    ),
    Acceptance(
        r"POST .* stream .*obfuscation",
        ".*",
        "The characters are random on purpose.",
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
        "The schema does not require the field; the rules of the schema notice those that it does.",
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
        if re.fullmatch(row.places, place) and re.fullmatch(row.operators, mutation.operator):
            return row.reason
    return ""
