"""Requests of a test that were not answered from its cassettes, or not kept in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llmengine.recording.tape import Tape
    from pytest_llmengine.targets import Session

_opened = pytest.StashKey[list[tuple["Session", "Tape"]]]()
_told = pytest.StashKey[int]()


def watch(item: pytest.Item, session: Session, tape: Tape) -> None:
    """Hold a test to the cassette that it opened."""
    item.stash.setdefault(_opened, []).append((session, tape))


def fail_on_misses(item: pytest.Item) -> None:
    """Fail the test for misses that it was not failed for yet.

    It is called after the test and after its fixtures, so that a client that hides the error of a
    miss hides it from nobody.
    """
    opened = item.stash.get(_opened, [])
    count = sum(len(tape.misses) for _, tape in opened)
    if count <= item.stash.get(_told, 0):
        return
    item.stash[_told] = count
    lines = [_story(session, tape, item.nodeid) for session, tape in opened if tape.misses]
    pytest.fail("\n".join(lines), pytrace=False)


def _story(session: Session, tape: Tape, test: str) -> str:
    how = session.record_command(test, rewrite=True)
    return "\n".join([*tape.misses, f"{session.name}: record {tape.path.name} anew: {how}"])
