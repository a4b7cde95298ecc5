"""The engines of one test, each at the test's own cassette."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine._cassette_names import cassette_name
from pytest_llmengine.recording import CassetteNotFoundError
from pytest_llmengine.targets import Mode, TargetError, can_be_used

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytest_llmengine._pool import Pool
    from pytest_llmengine.recording import Tape
    from pytest_llmengine.targets import Session

_opened = pytest.StashKey[list[tuple["Session", "Tape"]]]()
_told = pytest.StashKey[int]()

_INSTALL = {
    "vllm_local": "pip install 'pytest-llmengine[vllm]'",
    "openai": "pip install 'pytest-llmengine[openai]'",
}


class Use:
    """Opens engines for one test; an engine that is asked for twice is the same session."""

    def __init__(self, item: pytest.Item, pool: Pool, stack: ExitStack) -> None:
        self._item = item
        self._pool = pool
        self._stack = stack
        self._sessions: dict[str, Session] = {}
        item.stash[_opened] = []

    def __call__(self, name: str) -> Session:
        """The session of an engine; the test fails in one line where there is none."""
        if name not in self._sessions:
            self._sessions[name] = self._open(name)
        return self._sessions[name]

    def _open(self, name: str) -> Session:
        try:
            session = self._pool.open(name)
        except TargetError as error:
            pytest.fail(str(error), pytrace=False)
        if session.mode is Mode.REPLAY and self._item.get_closest_marker("live"):
            pytest.skip(f"marked live, and {name} is replayed; run it with --engine-mode=live")
        try:
            tape = self._stack.enter_context(session.cassette(cassette_name(self._item)))
        except CassetteNotFoundError as error:
            how = session.record_command(self._item.nodeid)
            pytest.fail(f"there is no cassette {error.path}; record it: {how}", pytrace=False)
        if tape is not None:
            self._item.stash[_opened].append((session, tape))
        return session


def skip_unless_here(backend: str) -> None:
    """Skip the test where this installation has no such backend, and say how to get it."""
    if not can_be_used(backend):
        how = _INSTALL.get(backend, "pip install -U pytest-llmengine")
        pytest.skip(f"there is no backend {backend!r} here: {how}")


def fail_on_misses(item: pytest.Item) -> None:
    """Fail the test if it sent what was not recorded, also where its client hid the error."""
    opened = item.stash.get(_opened, [])
    count = sum(len(tape.misses) for _, tape in opened)
    if count <= item.stash.get(_told, 0):
        return
    item.stash[_told] = count
    missed = [(session, tape) for session, tape in opened if tape.misses]
    pytest.fail("\n".join(_told_misses(*pair, item.nodeid) for pair in missed), pytrace=False)


def _told_misses(session: Session, tape: Tape, test: str) -> str:
    misses = "\n".join(tape.misses)
    how = session.record_command(test, rewrite=True)
    return f"{misses}\n{session.name} is replayed; record it again: {how}"
