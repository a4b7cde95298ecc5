"""Building request bodies: what every chat format does alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmengine.types.errors import InvalidRequestError
from llmengine.types.sampling import SamplingParams, is_neutral, refuse_what_is_lost


def with_extra(
    body: dict[str, Any], extra: Mapping[str, Any], joined: frozenset[str]
) -> dict[str, Any]:
    """`body` with the fields of `extra` over it; of those in `joined`, key by key."""
    for name, value in extra.items():
        ours = body.get(name)
        if name in joined and isinstance(ours, dict) and isinstance(value, Mapping):
            body[name] = ours | dict(value)
        else:
            body[name] = value
    return body


def sampling_fields(
    sampling: SamplingParams,
    names: Mapping[str, str],
    format_name: str,
    advice: str = "leave it out, or put what this server calls it into extra_body",
) -> dict[str, Any]:
    """The sampling parameters that are set, under the wire names in `names`.

    Raises InvalidRequestError for one that has no wire name, unless it asks for nothing; the
    message ends in ``advice``.
    """
    refuse_what_is_lost(sampling)
    fields = {}
    for name, value in sampling.given().items():
        wire_name = names.get(name)
        if wire_name is not None:
            fields[wire_name] = list(value) if isinstance(value, tuple) else value
        elif not is_neutral(name, value):
            raise InvalidRequestError(_cannot_say(name, value, format_name, advice))
    return fields


def _cannot_say(name: str, value: object, format_name: str, advice: str) -> str:
    return (
        f"sampling parameter {name!r} is {value!r}, which {format_name} has no field for; {advice}"
    )
