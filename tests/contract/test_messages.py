"""The rules of Anthropic's Messages API on servers without it, or without a part of it."""

from __future__ import annotations

import pytest

from llmengine.mock import Behaviour, MockServer
from llmengine.types.request import Capability
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import CheckResult, run_check

COUNT, MESSAGES = "/v1/messages/count_tokens", "/v1/messages"


def results_without(*routes: str, profile: Profile) -> list[CheckResult]:
    """The results of all rules of messages on a server without these routes."""
    behaviour = Behaviour(disabled_routes=frozenset(routes))
    with (
        MockServer(behaviour=behaviour) as server,
        Target(server.base_url, server.model) as target,
    ):
        return [run_check(check, target, profile) for check in select(ids=["messages"])]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_server_without_the_route_refuses_every_rule_for_one_cause(claimed: bool) -> None:
    """The cause is one finding, and none for a server that does not claim the API."""
    capabilities = frozenset(Capability) - (frozenset() if claimed else {Capability.MESSAGES})
    results = results_without(MESSAGES, COUNT, profile=Profile("x", capabilities))

    assert {result.outcome for result in results} == {Outcome.REFUSED}
    assert len({result.fact for result in results}) == 1
    assert {result.accepted for result in results} == {not claimed}


def test_a_server_without_count_tokens_keeps_the_other_rules() -> None:
    """Ollama has no such route."""
    results = results_without(COUNT, profile=Profile("x"))
    refused = {r.check.id for r in results if r.outcome is Outcome.REFUSED}

    assert refused == {"messages.count_tokens", "messages.count_tokens.tools"}
    assert {r.outcome for r in results if r.check.id not in refused} <= {
        Outcome.PASS,
        Outcome.UNMEASURED,
    }
