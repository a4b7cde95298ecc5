"""What a test's mock server means for its outcome.

A test that passed fails if its mock server was not used as the test has set it. If the test failed
for another reason, its report says that too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from llmengine.mock import MockServer

_server = pytest.StashKey["MockServer"]()


def watch_mock_server(item: pytest.Item, server: MockServer) -> None:
    """Register the mock server of a test."""
    item.stash[_server] = server


def fail_on_mock_server(item: pytest.Item) -> None:
    """Fail a test that passed if its mock server was not used as scripted."""
    __tracebackhide__ = True
    if problem := _problem(item):
        raise pytest.fail.Exception(problem, pytrace=False)


def report_mock_server(item: pytest.Item) -> None:
    """Add to the report of a test that failed how its mock server was not used as scripted."""
    if problem := _problem(item):
        item.add_report_section("call", "mock server", problem)


def _problem(item: pytest.Item) -> str | None:
    if _server not in item.stash:
        return None
    try:
        item.stash[_server].assert_as_scripted()
    except AssertionError as error:
        return str(error)
    return None
