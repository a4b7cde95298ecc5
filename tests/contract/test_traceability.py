"""The page that says which rule tests what the sources demand."""

from __future__ import annotations

import pytest
import traceability  # in tools/

from pytest_llmengine.contract.registry import catalogue, groups
from pytest_llmengine.contract.statements import Statement, statements

SHIPPED = [check for check in catalogue().values() if check.own_file is None]


def test_the_page_is_fresh() -> None:
    """``python tools/traceability.py`` writes the page."""
    assert traceability.PAGE.read_text("utf-8") == traceability.page()


@pytest.mark.parametrize("statement", statements(), ids=lambda s: s.text)
def test_a_demand_is_tested_or_excluded(statement: Statement) -> None:
    """A demand has rules that exist, or a reason why none tests it."""
    assert bool(statement.rules) != bool(statement.excluded)
    assert set(statement.rules) <= {check.id for check in SHIPPED} | set(groups())


def test_a_rule_cites_what_one_can_follow() -> None:
    """Every shipped rule has links with a revision, and says what breaks for a client."""
    wrong = [
        check.id
        for check in SHIPPED
        if not check.citations
        or not all(c.link.startswith("https://") and c.revision for c in check.citations)
        or not check.breaks.endswith(".")
    ]
    assert wrong == []
