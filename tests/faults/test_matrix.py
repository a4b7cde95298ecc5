"""Every backend meets every fault in every call style, and loses nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from llmengine.transport.loop import shutdown

from .cell import PATIENCE, outcomes
from .fault import BACKENDS, STYLES, Backend, Fault
from .table import FAULTS

if TYPE_CHECKING:
    from pathlib import Path


# Seconds of the clock that ends a call. A busy machine, on which the fault was not reached in
# this time, gets more.
_PATIENCES = (0.4, 2.0, 10.0)

# The backends use asyncio's sockets. The transport over aiohttp has code of its own for these.
_AIOHTTP = Backend("aiohttp", {"backend": "openai_compatible", "transport": "aiohttp"})
_FAULTS_FOR_AIOHTTP = [
    "reset in the body",
    "closed in the body",
    "a Content-Length that is too long",
    "a chunk size that is not a number",
    "no last chunk",
    "gzip that is cut",
    "an answer for ever",
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_ends_as_the_table_says(fault: str, backend: str, tmp_path: Path) -> None:
    """The outcome of each call style is the table's, and every promise is kept."""
    _check(FAULTS[fault], BACKENDS[backend], tmp_path)


@pytest.mark.parametrize("fault", _FAULTS_FOR_AIOHTTP)
def test_fault_ends_likewise_over_aiohttp(fault: str, tmp_path: Path) -> None:
    """The outcomes of the transport over aiohttp are the same."""
    _check(FAULTS[fault], _AIOHTTP, tmp_path)


def _check(row: Fault, column: Backend, tmp_path: Path) -> None:
    ought = {style: row.outcome(column, style) for style in STYLES}
    found: object = None
    for patience in _PATIENCES if row.by_clock else (PATIENCE,):
        folder = tmp_path / f"{patience:g}"  # a new folder, because a batch file would be resumed
        folder.mkdir()
        try:
            found = asyncio.run(outcomes(row, column, folder, patience))
        except AssertionError as error:
            shutdown()  # a call that hangs must not affect the next attempt or test
            found = error
        if found == ought:
            return
    if isinstance(found, AssertionError):
        raise found
    assert found == ought
