"""Matchers of requests: they find the recorded request for a new one, or explain why there is none.

By default, a request matches a recorded one if method, path and query are equal, as compared by
vcrpy, and the bodies have the same value.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from functools import lru_cache
from typing import TYPE_CHECKING

from vcr import matchers as vcr_matchers

from pytest_llmengine.recording.json_path import without

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vcr.request import Request as VcrRequest

    from pytest_llmengine.recording.config import Matcher, RecordingConfig
    from pytest_llmengine.recording.json_path import JSONPath


_BOUNDARY = re.compile(r'^multipart/.*boundary="?([^";,]+)', re.IGNORECASE)
_MAX_LINES = 40
_MAX_WIDTH = 200


@dataclass(frozen=True, slots=True)
class RequestMatcher:
    """Compares requests by the matchers of a configuration, without the paths that it ignores."""

    matchers: tuple[Matcher, ...]
    ignored: tuple[JSONPath, ...]

    @classmethod
    def of(cls, config: RecordingConfig) -> RequestMatcher:
        """The matcher of a configuration."""
        ignored = config.ignore_paths

        def same_body(new: VcrRequest, recorded: VcrRequest) -> bool:
            return _value(new, ignored) == _value(recorded, ignored)

        named: dict[str, Matcher] = {
            "method": vcr_matchers.method,
            "path": vcr_matchers.path,
            "query": vcr_matchers.query,
            "body": same_body,
        }
        return cls(
            tuple(named[one] if isinstance(one, str) else one for one in config.match_on), ignored
        )

    def matches(self, new: VcrRequest, recorded: VcrRequest) -> bool:
        """Whether every matcher finds the requests equal.

        As in vcrpy, a matcher returns a bool, or returns None and raises AssertionError if the
        requests differ.
        """
        return all(_agrees(matcher, new, recorded) for matcher in self.matchers)

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
        return pretty(request, self.ignored).splitlines()


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


def pretty(request: VcrRequest, ignored: tuple[JSONPath, ...] = ()) -> str:
    """The body for reading and for diffs: indented JSON with sorted keys, other text unchanged."""
    text = _value(request, ignored)
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def _value(request: VcrRequest, ignored: tuple[JSONPath, ...]) -> str | bytes:
    """The body for comparison.

    It is one text per JSON value: key order, spacing and ``1.0`` for ``1`` do not matter. Other
    bodies are their bytes, except for the random boundary of a multipart body.
    """
    content_type = request.headers.get("content-type", "")
    return _canonical(request.body or b"", content_type, ignored)


@lru_cache(maxsize=4096)
def _canonical(data: bytes, content_type: str, ignored: tuple[JSONPath, ...]) -> str | bytes:
    if boundary := _BOUNDARY.match(content_type):
        return data.replace(boundary[1].encode(), b"boundary")
    try:
        value = json.loads(data, parse_float=_number)
        # ``true`` and ``1`` differ as texts, unlike in Python.
        return json.dumps(without(value, ignored) if ignored else value, sort_keys=True)
    except (ValueError, RecursionError):
        return data


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value
