"""Words for a request that a cassette has no answer to."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff
from typing import TYPE_CHECKING

from vcr.matchers import requests_match

from pytest_llmengine.recording.matching import MATCHERS, pretty

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vcr.request import Request as VcrRequest

_MAX_LINES = 40
_MAX_WIDTH = 200


def title(request: VcrRequest) -> str:
    """Method, path and query: ``POST /v1/chat/completions``."""
    question = request.parsed_uri.query
    return f"{request.method} {request.path}" + (f"?{question}" if question else "")


def explain(asked: VcrRequest, recorded: Sequence[VcrRequest], path: Path) -> str:
    """What was asked, which recorded request is nearest, and how the two differ."""
    start = f"{title(asked)} has no answer in {path}"
    if not recorded:
        return f"{start}: the cassette is empty. Record it again if the call is meant."
    times = sum(requests_match(asked, one, MATCHERS) for one in recorded)
    if times:
        return (
            f"{start}: the same request was recorded {times} time(s) and each was played; "
            "this call is one more. Record it again, or replay with repeats."
        )
    place, nearest = _nearest(asked, recorded)
    return (
        f"{start}. Nearest of {len(recorded)} is number {place}, {title(nearest)}:\n"
        f"{_difference(asked, nearest)}\nRecord it again if the change is meant."
    )


def _nearest(asked: VcrRequest, recorded: Sequence[VcrRequest]) -> tuple[int, VcrRequest]:
    """The recorded request that is most like it, with its place counted from 1."""
    lines = pretty(asked).splitlines()

    def likeness(numbered: tuple[int, VcrRequest]) -> tuple[bool, bool, float]:
        other = numbered[1]
        ratio = SequenceMatcher(None, lines, pretty(other).splitlines()).ratio()
        return other.path == asked.path, other.method == asked.method, ratio

    return max(enumerate(recorded, 1), key=likeness)


def _difference(asked: VcrRequest, recorded: VcrRequest) -> str:
    old = [title(recorded), *pretty(recorded).splitlines()]
    new = [title(asked), *pretty(asked).splitlines()]
    diff = list(unified_diff(old, new, "recorded", "this request", lineterm="", n=2))
    lines = [d if len(d) <= _MAX_WIDTH else d[:_MAX_WIDTH] + "..." for d in diff[:_MAX_LINES]]
    if len(diff) > _MAX_LINES:
        lines.append(f"... {len(diff) - _MAX_LINES} more lines")
    return "\n".join(lines)
