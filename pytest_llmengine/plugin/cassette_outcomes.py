"""What the cassettes of a test mean for its outcome, and its outcome for the cassettes.

A test fails if a request was not found in its cassette, or could not be recorded. The recording of
a test that has not passed does not replace an earlier one.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_llmengine.recording import Cassette
    from pytest_llmengine.recording.network import Guard
    from pytest_llmengine.targets import Session

_cassettes = pytest.StashKey[list[tuple["Session", "Cassette"]]]()
_shared = pytest.StashKey[list[tuple[str, "Cassette"]]]()
_guard = pytest.StashKey["Guard"]()
_reported = pytest.StashKey[int]()


def watch(item: pytest.Item, session: Session, cassette: Cassette) -> None:
    """Register a cassette that a test has opened."""
    cassette.interrupted = True  # until there is a report of the test
    item.stash.setdefault(_cassettes, []).append((session, cassette))


@contextmanager
def shared(request: pytest.FixtureRequest, cassette: Cassette) -> Iterator[None]:
    """Register the cassette of a fixture that several tests may use, for as long as it is open."""
    entry = (str(request.fixturename), cassette)
    cassette.interrupted = True
    entries = request.config.stash.setdefault(_shared, [])
    entries.append(entry)
    try:
        yield
    finally:
        entries.remove(entry)


def watch_network(item: pytest.Item, guard: Guard) -> None:
    """Register the network guard that a test runs under."""
    item.stash[_guard] = guard


def is_guarded(item: pytest.Item) -> bool:
    """Whether the test already runs under a guard."""
    return _guard in item.stash


def note_outcome(item: pytest.Item, report: pytest.TestReport) -> None:
    """Tell the test's cassettes whether it passed; a failure says where the new answers are."""
    if report.when == "teardown":
        return
    expected = report.passed or hasattr(report, "wasxfail")
    goes_on = report.when == "setup" and report.passed
    for cassette in _cassettes_of(item):
        cassette.interrupted = goes_on
        cassette.failed = cassette.failed or not expected
        if report.failed and cassette.not_replaced:
            report.sections.append(("Recording of the LLM engine", cassette.not_replaced))


def _cassettes_of(item: pytest.Item) -> Iterator[Cassette]:
    """The cassettes of the test, and those of the fixtures that it shares with other tests."""
    yield from (cassette for _, cassette in item.stash.get(_cassettes, []))
    names = getattr(item, "fixturenames", ())
    for name, cassette in item.config.stash.get(_shared, []):
        if name in names:
            yield cassette


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
