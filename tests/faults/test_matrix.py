"""Every backend meets every fault in every call style, and loses nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from llmengine.transport.loop import shutdown

from .cell import PATIENCE, outcomes
from .fault import BACKENDS, STYLES
from .table import FAULTS

if TYPE_CHECKING:
    from pathlib import Path


# Seconds of the clock that ends a call. A busy machine, on which the fault was not reached in
# this time, gets more.
_PATIENCES = (0.4, 2.0, 10.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_ends_as_the_table_says(fault: str, backend: str, tmp_path: Path) -> None:
    """The outcome of each call style is the table's, and every promise is kept."""
    row, column = FAULTS[fault], BACKENDS[backend]
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
