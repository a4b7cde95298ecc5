"""Failures of tests whose requests were not found in their cassettes, or could not be recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.recording import Cassette
    from pytest_llmengine.recording.network import Guard
    from pytest_llmengine.targets import Session

_cassettes = pytest.StashKey[list[tuple["Session", "Cassette"]]]()
_guard = pytest.StashKey["Guard"]()
_reported = pytest.StashKey[int]()


def watch(item: pytest.Item, session: Session, cassette: Cassette) -> None:
    """Register a cassette that a test has opened, to fail the test on its unhandled requests."""
    item.stash.setdefault(_cassettes, []).append((session, cassette))


def watch_network(item: pytest.Item, guard: Guard) -> None:
    """Register the network guard that a test runs under."""
    item.stash[_guard] = guard


def is_guarded(item: pytest.Item) -> bool:
    """Whether the test already runs under a guard."""
    return _guard in item.stash


def fail_on_unhandled(item: pytest.Item) -> None:
    """Fail the test if there are unhandled requests that it has not failed for yet.

    This is called after the test and again after its fixtures. So an unhandled request fails the
    test even if the client hides the error.
    """
    reasons = list(_reasons(item))
    if len(reasons) <= item.stash.get(_reported, 0):
        return
    item.stash[_reported] = len(reasons)
    # With `from None`, the report does not show the error that the client made of the answer.
    raise pytest.fail.Exception("\n".join(reasons), pytrace=False) from None


def _reasons(item: pytest.Item) -> Iterator[str]:
    for session, cassette in item.stash.get(_cassettes, []):
        yield from cassette.unhandled
        if cassette.unhandled:
            command = session.record_command(item.nodeid, rewrite=True)
            yield f"{session.name}: to record {cassette.path} again: {command}"
    if _guard in item.stash:
        for refused in item.stash[_guard].refused:
            yield f"replay: {refused} was refused; nothing may leave this machine"
