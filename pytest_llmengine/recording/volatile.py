"""What differs in every recording of the same answer, and how an earlier recording keeps it.

Ids and times differ whenever a server answers, and would hide in a review what else has changed. If
nothing else has changed in an exchange, its earlier recording is kept as it is. Clients send ids
back, such as those of tool calls, so the kept ids are put in place of the new ones everywhere.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

from vcr.request import Request as VcrRequest

from pytest_llmengine.recording.cassette import from_vcr, to_vcr, with_body
from pytest_llmengine.recording.json_path import JSONPath, masked, values_at

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from pytest_llmengine.recording.cassette import Exchange, RecordedAnswer
    from pytest_llmengine.recording.matchers import RequestMatcher


def _parsed(*paths: str) -> tuple[JSONPath, ...]:
    return tuple(JSONPath.parse(path) for path in paths)


# Paths in whole answers and in each event of a stream, of all dialects.
_IDS = _parsed(
    "$.id",
    "$.choices[*].message.tool_calls[*].id",
    "$.choices[*].delta.tool_calls[*].id",
    "$.message.id",  # Anthropic's message_start
    "$.content[*].id",  # Anthropic's tool_use
    "$.content_block.id",
    "$.output[*].id",  # OpenAI's responses
    "$.output[*].call_id",
    "$.response.id",
    "$.response.output[*].id",
    "$.response.output[*].call_id",
    "$.item.id",
    "$.item.call_id",
    "$.item_id",
)
_OTHERS = _parsed(
    "$..created",
    "$..created_at",
    "$..completed_at",
    "$..modified_at",
    "$..system_fingerprint",
    "$..cached_tokens",  # depend on what the server was asked before
    "$..cache_creation_input_tokens",
    "$..cache_read_input_tokens",
    "$.obfuscation",
    "$.total_duration",  # Ollama
    "$.load_duration",
    "$.prompt_eval_duration",
    "$.eval_duration",
    "$..timings",  # llama.cpp
)
VOLATILE_PATHS = _IDS + _OTHERS
# Headers that differ in every answer, or that only describe the body.
_VOLATILE_HEADERS = re.compile(
    r"(?:.*-)?request-id|.*ratelimit.*|.*-ms|cf-ray|cf-cache-status|date|age|expires|etag"
    r"|last-modified|content-length|transfer-encoding|connection|server-timing|x-process-time"
)
# A shorter id may be a word of a text, so it is not replaced.
_ID = re.compile(r"[\w.:~+-]{8,}")


def is_volatile_header(name: str) -> bool:
    """Whether a header of an answer, by its name in lower case, differs in every recording."""
    return _VOLATILE_HEADERS.fullmatch(name) is not None


def keep_unchanged(
    new: Sequence[Exchange],
    earlier: Sequence[Exchange],
    matcher: RequestMatcher,
    paths: tuple[JSONPath, ...] = (),
) -> list[Exchange]:
    """The new exchanges, with the earlier one in place of each that says the same.

    `paths` are volatile too, in addition to those of ids and times.
    """
    left: dict[Hashable, list[int]] = {}
    for place, (request, _) in enumerate(earlier):
        left.setdefault(matcher.key(request), []).append(place)
    kept_ids: dict[str, str] = {}
    result: list[Exchange] = []
    kept: list[int] = []
    for exchange in new:
        request, response = _with_ids(exchange, kept_ids)
        places = left.get(matcher.key(request), [])
        found = next((n for n in places if matcher.agrees(request, earlier[n][0])), None)
        ids = None
        if found is not None:
            places.remove(found)
            ids = _ids_if_same(from_vcr(response), from_vcr(earlier[found][1]), paths)
        if found is None or ids is None or ids.keys() & {*kept_ids, *kept_ids.values()}:
            result.append((request, response))
        else:
            kept_ids |= ids
            kept.append(found)
            result.append(earlier[found])
    if len(kept) == len(new):
        # Requests that were in flight at once may have arrived in another order.
        return [earlier[place] for place in sorted(kept)]
    return result


def _ids_if_same(
    new: RecordedAnswer, old: RecordedAnswer, paths: tuple[JSONPath, ...]
) -> dict[str, str] | None:
    """The old id for each new one, if the answers differ in nothing but volatile values."""
    if (new.status, new.cut, _stable(new)) != (old.status, old.cut, _stable(old)):
        return None
    volatile = VOLATILE_PATHS + paths
    texts = _text(new.body), _text(old.body)
    stable, stable_before = (masked(text, volatile, "null") for text in texts)
    if stable != stable_before:
        return None
    try:
        pairs = list(_changed_texts(*(values_at(text, _IDS) for text in texts)))
        others = _changed_texts(*(values_at(text, paths) for text in texts))
        pairs += (pair for pair in others if _ID.fullmatch(pair[0]))
    except ValueError:  # a body is cut off within a value
        return None
    ids = dict(pairs)
    clear = all(_ID.fullmatch(value) and ids[value] == before for value, before in pairs)
    return ids if clear else None


def _stable(answer: RecordedAnswer) -> list[tuple[str, str]]:
    """The headers that do not differ in every recording."""
    return sorted(pair for pair in answer.headers if not is_volatile_header(pair[0]))


def _changed_texts(new: list[str], old: list[str]) -> Iterator[tuple[str, str]]:
    for value, before in zip(new, old, strict=True):
        if value != before and value.startswith('"') and before.startswith('"'):
            yield json.loads(value), json.loads(before)


def _with_ids(exchange: Exchange, kept: Mapping[str, str]) -> Exchange:
    """The exchange with the kept ids in place of the new ones."""
    if not kept:
        return exchange
    replaced = partial(_ID.sub, lambda found: kept.get(found[0], found[0]))
    request, response = exchange
    body = replaced(_text(request.body or b"")).encode("utf-8", "surrogateescape")
    answer = from_vcr(response)
    edited = replaced(_text(answer.body)).encode("utf-8", "surrogateescape")
    return (
        VcrRequest(request.method, replaced(request.uri), body or None, request.headers),
        to_vcr(with_body(answer, edited)),
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
