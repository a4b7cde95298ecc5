"""Failures of tests whose requests were not found in their cassettes, or could not be recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.recording import Tape
    from pytest_llmengine.recording.network import Guard
    from pytest_llmengine.targets import Session

_opened = pytest.StashKey[list[tuple["Session", "Tape"]]]()
_guard = pytest.StashKey["Guard"]()
_told = pytest.StashKey[int]()


def watch(item: pytest.Item, session: Session, tape: Tape) -> None:
    """Register a cassette that a test has opened, to fail the test on its misses."""
    item.stash.setdefault(_opened, []).append((session, tape))


def watch_network(item: pytest.Item, guard: Guard) -> None:
    """Register the network guard that a test runs under."""
    item.stash[_guard] = guard


def is_guarded(item: pytest.Item) -> bool:
    """Whether the test already runs under a guard."""
    return _guard in item.stash


def fail_on_misses(item: pytest.Item) -> None:
    """Fail the test if there are misses that it has not failed for yet.

    This is called after the test and again after its fixtures. So a miss fails the test even if
    the client hides the error.
    """
    stories = list(_stories(item))
    if len(stories) <= item.stash.get(_told, 0):
        return
    item.stash[_told] = len(stories)
    # With `from None`, the report does not show the error that the client made of the miss.
    raise pytest.fail.Exception("\n".join(stories), pytrace=False) from None


def _stories(item: pytest.Item) -> Iterator[str]:
    for session, tape in item.stash.get(_opened, []):
        yield from tape.misses
        if tape.misses:
            how = session.record_command(item.nodeid, rewrite=True)
            yield f"{session.name}: to record {tape.path} anew: {how}"
    if _guard in item.stash:
        for refused in item.stash[_guard].refused:
            yield f"replay: {refused} was refused; nothing may leave this machine"
