"""docs/faults.md agrees with the table of faults."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("fault_page", ROOT / "tools" / "fault_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_is_the_table() -> None:
    """The page is what tools/fault_page.py writes; run it if this fails."""
    document = (ROOT / "docs" / "faults.md").read_text("utf-8")

    assert document == _tool().page(document)


def test_no_cell_is_empty() -> None:
    """Every fault has an outcome at every backend, and there are enough of them."""
    rows = [row.split(" | ") for row in _tool().tables().splitlines() if row.startswith("| ")]

    assert all(cell.strip(" |") for row in rows for cell in row)
    assert {len(row) for row in rows} == {8}
    assert len(rows) > 85
