"""Requests of a test that were not answered from its cassettes, or not kept in them."""

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
    """Hold a test to the cassette that it opened."""
    item.stash.setdefault(_opened, []).append((session, tape))


def watch_network(item: pytest.Item, guard: Guard) -> None:
    """Hold a test to the guard that it runs under."""
    item.stash[_guard] = guard


def is_guarded(item: pytest.Item) -> bool:
    """Whether the test runs under a guard already."""
    return _guard in item.stash


def fail_on_misses(item: pytest.Item) -> None:
    """Fail the test for what it was not failed for yet.

    It is called after the test and after its fixtures, so that a client that hides the error of a
    miss hides it from nobody.
    """
    stories = list(_stories(item))
    if len(stories) <= item.stash.get(_told, 0):
        return
    item.stash[_told] = len(stories)
    # What the client made of the miss would only be shown above it.
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
