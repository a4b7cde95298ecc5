"""Ways to break a server that were written without regard to the rules are noticed by rules."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.contract.runner import run_check

KEY = "a-key-for-the-mock"
AT_LEAST = 150
_HERE = Path(__file__).parent
BREAKAGES: list[Behaviour] = runpy.run_path(str(_HERE / "breakages.py"))["breakages"]
NOTICED_BY: dict[str, str | None] = json.loads(
    (_HERE / "breakages.json").read_text(encoding="utf-8")
)
# Breakages that no rule notices, with the reason why a client can live with each of them.
ACCEPTED: dict[str, str] = {}


@pytest.mark.parametrize(
    "breakage", [pytest.param(b, id=b.name) for b in BREAKAGES if NOTICED_BY.get(b.name)]
)
def test_a_rule_notices_it(breakage: Behaviour) -> None:
    """The rule that is named for a breakage fails, or says that the request was ignored."""
    check = catalogue()[NOTICED_BY[breakage.name] or ""]
    limits = Limits(answer=10, check=30)
    with (
        MockServer(behaviour=breakage, api_key=KEY) as server,
        Target(server.base_url, server.model, api_key=KEY, limits=limits) as target,
    ):
        result = run_check(check, target, Profile("mock"))
    assert result.outcome in {Outcome.FAIL, Outcome.IGNORED}, result.reason


def test_every_breakage_is_noticed_or_accepted() -> None:
    """The table names each breakage; what no rule notices is accepted with a reason."""
    assert sorted(NOTICED_BY) == sorted(b.name for b in BREAKAGES)
    assert {name for name, rule in NOTICED_BY.items() if rule is None} == set(ACCEPTED)
    assert len(NOTICED_BY) - len(ACCEPTED) >= AT_LEAST
