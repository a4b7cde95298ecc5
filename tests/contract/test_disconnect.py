"""How the rules of net.disconnect tell servers apart that do not say what they work on."""

from __future__ import annotations

import pytest

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import run_check

RULE = "net.disconnect.whole"
SILENT = frozenset({"GET /metrics"})


@pytest.mark.parametrize(
    ("slots", "without", "outcome"),
    [
        pytest.param(2, frozenset(), Outcome.PASS, id="frees its slots"),
        pytest.param(2, frozenset({RULE}), Outcome.FAIL, id="keeps its slots"),
        pytest.param(None, frozenset({RULE}), Outcome.UNMEASURED, id="is never full"),
    ],
)
def test_a_short_request_tells_it(
    slots: int | None, without: frozenset[str], outcome: Outcome
) -> None:
    """The time of a short request tells whether slots are free, if the server has few of them."""
    (check,) = select(ids=[RULE])
    silent = Behaviour("silent", disabled_routes=SILENT, without_rules=without)
    with (
        MockServer(slots=slots, behaviour=silent) as server,
        Target(server.base_url, server.model) as target,
    ):
        result = run_check(check, target, Profile("mock"))
    assert result.outcome is outcome, result.reason


def test_it_is_not_measured_through_a_recorder() -> None:
    """The connections of a recorder are not those of the clients."""
    (check,) = select(ids=[RULE])
    with MockServer() as server, Target(server.base_url, "mock", direct=False) as target:
        result = run_check(check, target, Profile("mock"))
    assert result.outcome is Outcome.UNMEASURED
    assert len(server.calls) == 0
