"""What a run costs: the requests, bytes and tokens of each check.

The numbers were measured on the mock server by ``tools/contract_costs.py``. Another model writes
longer or shorter answers, so they are an estimate.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.contract.registry import Check


class Cost(NamedTuple):
    """Requests, bytes in both directions, and tokens of prompts and answers."""

    requests: int
    bytes: int
    tokens: int

    def __str__(self) -> str:
        requests = "1 request" if self.requests == 1 else f"{self.requests:,} requests"
        return f"{requests}, {self.bytes / 1_000_000:,.2f} MB, {self.tokens:,} tokens"


def cost_of(checks: Iterable[Check]) -> Cost:
    """The cost of these checks together; a rule without a measured cost counts as nothing."""
    known = measured_costs()
    found = [known[check.id] for check in checks if check.id in known]
    return Cost(
        sum(c.requests for c in found), sum(c.bytes for c in found), sum(c.tokens for c in found)
    )


@cache
def measured_costs() -> dict[str, Cost]:
    """The cost of each check by id."""
    file = resources.files("pytest_llmengine.contract") / "costs.json"
    return {id_: Cost(*row) for id_, row in json.loads(file.read_text("utf-8")).items()}
