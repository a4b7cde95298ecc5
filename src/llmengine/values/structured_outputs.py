"""The constraint that ``SamplingParams.structured_outputs`` holds, in vLLM's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmengine.values.errors import InvalidRequestError


def _texts(value: object) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    return bool(value) and all(isinstance(item, str) for item in value)


# What each kind takes, in words and as a test; see StructuredOutputsParams in vLLM's openapi.json.
_KINDS: dict[str, tuple[str, Any]] = {
    "json": ("a JSON schema, as a mapping or as text", lambda v: isinstance(v, str | Mapping)),
    "regex": ("a regular expression as text", lambda v: isinstance(v, str)),
    "choice": ("a list of at least one text", _texts),
    "grammar": ("a grammar as text", lambda v: isinstance(v, str)),
    "json_object": ("True", lambda v: v is True),
    "structural_tag": ("a structural tag as JSON text", lambda v: isinstance(v, str)),
}
# vLLM 0.32 takes them in a request and ignores them: only the server's own setting counts.
_SET_ON_THE_SERVER = frozenset(
    {"disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"}
)


def checked(value: Any) -> dict[str, Any] | None:
    """The one constraint that is asked for; None where nothing is.

    Entries that are None or False ask for nothing, as in vLLM's own class. Raises
    InvalidRequestError for an unknown entry, one of the wrong type, or more than one.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _wrong(value, f"give a mapping with one of {', '.join(_KINDS)}")
    given = {k: v for k, v in value.items() if v is not None and v is not False}
    if ignored := sorted(given.keys() & _SET_ON_THE_SERVER):
        raise _wrong(
            value,
            f"vLLM ignores {ignored[0]!r} in a request; set it on the server, with "
            "--structured-outputs-config",
        )
    if unknown := sorted(given.keys() - _KINDS.keys()):
        raise _wrong(value, f"{unknown[0]!r} is unknown; known are {', '.join(_KINDS)}")
    if len(given) > 1:
        raise _wrong(value, f"{' and '.join(given)} are given; a server takes one of them")
    for kind, wanted in given.items():
        words, fits = _KINDS[kind]
        if not fits(wanted):
            raise _wrong(value, f"{kind!r} must be {words}")
    return given


def _wrong(value: object, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"sampling parameter 'structured_outputs' is {value!r}; {why}")
