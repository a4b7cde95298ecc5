"""Sums of money."""

from __future__ import annotations

from typing import Any

import pytest

from llmengine.telemetry.usage import total_cost


@pytest.mark.parametrize(
    ("parts", "total"),
    [
        ([], (0.0, None)),
        ([(1.0, "EUR"), (0.5, "EUR")], (1.5, "EUR")),
        ([(0.0, None), (1.0, "EUR"), (0.0, None)], (1.0, "EUR")),
        ([(1.0, "EUR"), (None, None)], (None, None)),
        ([(None, None), (1.0, "EUR")], (None, None)),
        ([(1.0, "EUR"), (1.0, "USD")], (None, None)),
    ],
    ids=["nothing", "one_currency", "unsent", "unknown_last", "unknown_first", "two_currencies"],
)
def test_total(parts: Any, total: Any) -> None:
    """The unknown makes all unknown, currencies are never mixed, and what was not sent is free."""
    assert total_cost(parts) == total
