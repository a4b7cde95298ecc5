"""Typed readers for the fields of JSON objects that a server or a user sends.

Every value that a dialect takes from such an object goes through one of these readers, so that a
value of a wrong type is found at once. A field that is null counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic_core import to_json

from llmengine.types.outputs import Usage
from llmengine.types.secrets import scrub

_LONGEST_QUOTE = 200
_READ = 4096


def quote(body: bytes | str) -> str:
    """The start of a body on one line, with keys masked; ``an empty body`` if it has no text.

    Keys are masked before the text is cut, so that no half of a key is left at the end.
    """
    text = body[:_READ].decode("utf-8", "replace") if isinstance(body, bytes) else body[:_READ]
    line = " ".join(scrub(text).split())
    if not line:
        return "an empty body"
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."


# Larger counts cannot be multiplied by a price or stored by a tracing backend.
_LARGEST_COUNT = 2**53
_INTEGERS = frozenset({int})


class FieldError(ValueError):
    """A field has a value of the wrong type; the message names the field and the value."""


def wrong(where: str, expected: str, value: object) -> FieldError:
    """The error for a field at ``where`` whose value is not ``expected``, such as "text"."""
    if value is None:
        return FieldError(f"{where} is missing")
    return FieldError(f"{where} is not {expected}: {quote(to_json(value, fallback=repr))}")


def text(data: Mapping[str, object], key: str, path: str = "") -> str | None:
    """The text in a field; None if it is missing."""
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    raise wrong(path + key, "text", value)


def required_text(data: Mapping[str, object], key: str, path: str = "") -> str:
    """The text in a required field."""
    value = data.get(key)
    if isinstance(value, str):
        return value
    raise wrong(path + key, "text", value)


def json_text(data: Mapping[str, object], key: str, path: str = "") -> str:
    """The text in a field, or an object in it as JSON text; "" if it is missing."""
    value = data.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return to_json(value).decode()
    raise wrong(path + key, "text", value)


def count(data: Mapping[str, object], key: str, path: str = "") -> int | None:
    """The non-negative whole number in a field; None if it is missing."""
    value = data.get(key)
    if value is None or (type(value) is int and 0 <= value <= _LARGEST_COUNT):
        return value
    if isinstance(value, float) and value.is_integer():  # inf and nan are not
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(path + key, "a whole number", value)
    if not 0 <= value <= _LARGEST_COUNT:
        raise wrong(path + key, "a plausible number", value)
    return value


def number(data: Mapping[str, object], key: str, path: str = "") -> float:
    """The number in a required field."""
    value = data.get(key)
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(path + key, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise wrong(path + key, "a plausible number", value) from None


def mapping(data: Mapping[str, object], key: str, path: str = "") -> dict[str, object] | None:
    """The object in a field; None if it is missing."""
    value = data.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise wrong(path + key, "an object", value)


def required_mapping(data: Mapping[str, object], key: str, path: str = "") -> dict[str, object]:
    """The object in a required field."""
    value = data.get(key)
    if isinstance(value, dict):
        return value
    raise wrong(path + key, "an object", value)


def objects(data: Mapping[str, object], key: str, path: str = "") -> list[dict[str, object]]:
    """The objects in a list; an empty list if it is missing."""
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(path + key, "a list", value)
    for item in value:
        if not isinstance(item, dict):
            raise wrong(f"an item of {path}{key}", "an object", item)
    return value


def whole_numbers(data: Mapping[str, object], key: str, path: str = "") -> tuple[int, ...] | None:
    """The whole numbers in a list; None if it is missing."""
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise wrong(path + key, "a list", value)
    if not {*map(type, value)} <= _INTEGERS:
        item = next(item for item in value if type(item) is not int)
        raise wrong(f"an item of {path}{key}", "a whole number", item)
    return tuple(value)


# ---- messages of a user, which may hold any kind of mapping and of list


def any_mapping(data: Mapping[str, object], key: str, path: str = "") -> Mapping[str, object]:
    """The mapping in a required field."""
    value = data.get(key)
    if isinstance(value, Mapping):
        return value
    raise wrong(path + key, "a mapping", value)


def any_mappings(
    data: Mapping[str, object], key: str, path: str = ""
) -> list[Mapping[str, object]]:
    """The mappings in a list; an empty list if the field is missing."""
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise wrong(path + key, "a list", value)
    items = list(value)
    for item in items:
        if not isinstance(item, Mapping):
            raise wrong(f"an item of {path}{key}", "a mapping", item)
    return items


# ---- minor fields: a wrong value does not fail the answer, but is noted in `warnings`


def label(data: Mapping[str, object], key: str, warnings: dict[str, str]) -> str | None:
    """The text in a minor field, such as the answer's id; a wrong value becomes a warning."""
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    warnings[key] = f"{wrong(key, 'text', value)}; it was left out"
    return None


@dataclass(frozen=True, slots=True)
class UsageFields:
    """The names of a format's usage counts; ``where`` is the object that holds them.

    ``cached`` are counts of prompt tokens that ``prompt`` leaves out; the last one is of tokens
    that were read from a cache.
    """

    where: str
    prompt: str
    completion: str
    total: str | None = None
    prompt_details: str = ""
    completion_details: str = ""
    cached: tuple[str, ...] = ()


CHAT_USAGE = UsageFields(
    "usage.",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
)
RESPONSES_USAGE = UsageFields(
    "usage.",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "input_tokens_details",
    "output_tokens_details",
)
OLLAMA_USAGE = UsageFields("", "prompt_eval_count", "eval_count")
MESSAGES_USAGE = UsageFields(
    "usage.",
    "input_tokens",
    "output_tokens",
    completion_details="output_tokens_details",
    cached=("cache_creation_input_tokens", "cache_read_input_tokens"),
)


def read_usage(value: object, names: UsageFields, warnings: dict[str, str]) -> Usage | None:
    """The token counts of an answer; None if they are missing or any of them is invalid.

    An invalid count is a warning and not an error, because the answer itself is usable.
    """
    if not value:
        return None
    try:
        usage = _usage(value, names)
    except FieldError as error:
        warnings["usage"] = f"{error}; the usage of the answer is unknown"
        return None
    if warnings:
        warnings.pop("usage", None)  # a later count of a stream replaces an earlier one
    return usage


def _usage(value: object, names: UsageFields) -> Usage | None:
    if not isinstance(value, dict):
        raise wrong(names.where.rstrip("."), "an object", value)
    where = names.where
    prompt, completion = count(value, names.prompt, where), count(value, names.completion, where)
    if names.total is None:
        if prompt is None and completion is None:
            return None
        cached = [count(value, name, where) for name in names.cached]
        if prompt is not None:
            prompt += sum([tokens or 0 for tokens in cached])
        total = None if prompt is None or completion is None else prompt + completion
        reasoning = _detail(value, names.completion_details, "thinking_tokens", where)
        return Usage(prompt, completion, total, cached[-1] if cached else None, reasoning)
    return Usage(
        prompt,
        completion,
        count(value, names.total, where),
        _detail(value, names.prompt_details, "cached_tokens", where),
        _detail(value, names.completion_details, "reasoning_tokens", where),
    )


def _detail(value: Mapping[str, object], details: str, key: str, where: str) -> int | None:
    if not value.get(details):  # servers leave the details out, or send null or {}
        return None
    return count(required_mapping(value, details, where), key, f"{where}{details}.")
