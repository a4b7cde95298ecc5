"""Matchers of requests: they find the recorded request for a new one, or explain why there is none.

By default, a request matches a recorded one if method, path and query are equal, and the bodies
have the same value.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_llmengine.recording.json_path import without
from pytest_llmengine.recording.normalizers import normalized

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.config import Matcher, RecordingConfig
    from pytest_llmengine.recording.json_path import JSONPath
    from pytest_llmengine.recording.normalizers import Normalize


_BOUNDARY = re.compile(r'^multipart/.*boundary="?([^";,]+)', re.IGNORECASE)
_MAX_LINES = 40
_MAX_WIDTH = 200


_PARTS: dict[str, Callable[[VcrRequest], Hashable]] = {
    "method": lambda request: request.method,
    "path": lambda request: request.path,
    "query": lambda request: tuple(request.query),  # sorted
}


@dataclass(frozen=True, slots=True)
class RequestMatcher:
    """Compares requests by the matchers of a configuration.

    ``parts`` are the parts of a request that must be equal. The body is compared without the paths
    that are ignored, and after the normalizers have replaced what differs in each run.
    ``functions`` are the project's own matchers.
    """

    parts: tuple[str, ...] = (*_PARTS, "body")
    functions: tuple[Matcher, ...] = ()
    ignored: tuple[JSONPath, ...] = ()
    normalizers: tuple[Normalize, ...] = ()

    @classmethod
    def of(cls, config: RecordingConfig) -> RequestMatcher:
        """The matcher of a configuration."""
        parts = tuple(one for one in config.match_on if isinstance(one, str))
        functions = tuple(one for one in config.match_on if not isinstance(one, str))
        return cls(parts, functions, config.ignore_paths, config.normalize)

    def key(self, request: VcrRequest) -> Hashable:
        """What the parts of the request come to; it is equal for requests that may match."""
        return tuple(
            self._value(request) if part == "body" else _PARTS[part](request) for part in self.parts
        )

    def agrees(self, new: VcrRequest, recorded: VcrRequest) -> bool:
        """Whether every function of the project finds the requests equal.

        As in vcrpy, a function returns a bool, or returns None and raises AssertionError if the
        requests differ.
        """
        return all(_agrees(function, new, recorded) for function in self.functions)

    def matches(self, new: VcrRequest, recorded: VcrRequest) -> bool:
        """Whether all parts are equal and all functions agree."""
        return self.key(new) == self.key(recorded) and self.agrees(new, recorded)

    def explain(self, new: VcrRequest, recorded: Sequence[VcrRequest], path: Path) -> str:
        """Why no recorded request matches; shows the most similar one and how the two differ."""
        start = f"{title(new)} has no answer in {path}"
        if not recorded:
            return f"{start}: the cassette is empty. Record it again if the call is meant."
        times = sum(self.matches(new, one) for one in recorded)
        if times:
            return (
                f"{start}: the same request was recorded {times} time(s) and each was played; "
                "this call is one more. Record it again, or replay with repeats."
            )
        place, nearest = self._nearest(new, recorded)
        return (
            f"{start}. Nearest of {len(recorded)} is number {place}, {title(nearest)}:\n"
            f"{self._difference(new, nearest)}\nRecord it again if the change is meant."
        )

    def _nearest(self, new: VcrRequest, recorded: Sequence[VcrRequest]) -> tuple[int, VcrRequest]:
        """The most similar recorded request, with its place counted from 1."""
        lines = self._lines(new)

        def likeness(numbered: tuple[int, VcrRequest]) -> tuple[bool, bool, float]:
            other = numbered[1]
            ratio = SequenceMatcher(None, lines, self._lines(other)).ratio()
            return other.path == new.path, other.method == new.method, ratio

        return max(enumerate(recorded, 1), key=likeness)

    def _difference(self, new: VcrRequest, recorded: VcrRequest) -> str:
        before, after = ([title(one), *self._lines(one)] for one in (recorded, new))
        diff = list(unified_diff(before, after, "recorded", "this request", lineterm="", n=2))
        if not diff:
            return "a matcher of the project finds them different"
        lines = [d if len(d) <= _MAX_WIDTH else d[:_MAX_WIDTH] + "..." for d in diff[:_MAX_LINES]]
        if len(diff) > _MAX_LINES:
            lines.append(f"... {len(diff) - _MAX_LINES} more lines")
        return "\n".join(lines)

    def _lines(self, request: VcrRequest) -> list[str]:
        return _pretty(self._value(request)).splitlines()

    def _value(self, request: VcrRequest) -> str | bytes:
        content_type = request.headers.get("content-type", "")
        return _canonical(request.body or b"", content_type, self.ignored, self.normalizers)


def _agrees(matcher: Matcher, new: VcrRequest, recorded: VcrRequest) -> bool:
    try:
        result = matcher(new, recorded)
    except AssertionError:
        return False
    return result is None or bool(result)


def title(request: VcrRequest) -> str:
    """Method, path and query, such as ``POST /v1/chat/completions``."""
    query = request.parsed_uri.query
    return f"{request.method} {request.path}" + (f"?{query}" if query else "")


def pretty(request: VcrRequest) -> str:
    """The body for reading and for diffs: indented JSON with sorted keys, other text unchanged."""
    return _pretty(_canonical(request.body or b"", request.headers.get("content-type", "")))


def _pretty(text: str | bytes) -> str:
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


@lru_cache(maxsize=4096)
def _canonical(
    data: bytes,
    content_type: str,
    ignored: tuple[JSONPath, ...] = (),
    normalizers: tuple[Normalize, ...] = (),
) -> str | bytes:
    """The body for comparison.

    It is one text per JSON value: key order, spacing and ``1.0`` for ``1`` do not matter. Other
    bodies are their bytes, except for the random boundary of a multipart body.
    """
    if boundary := _BOUNDARY.match(content_type):
        return data.replace(boundary[1].encode(), b"boundary")
    try:
        value = json.loads(data, parse_float=_number)
        if ignored:
            value = without(value, ignored)
        # ``true`` and ``1`` differ as texts, unlike in Python.
        text = json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):
        return data
    return json.dumps(normalized(value, normalizers), sort_keys=True) if normalizers else text


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value
