"""`ctx.boundary` on a server that reads long prompts slowly."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

from llmengine.mock import Behaviour, MockServer
from pytest_llmengine.contract import Target
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.profile import Profile
from pytest_llmengine.contract.registry import select
from pytest_llmengine.contract.runner import run_check

if TYPE_CHECKING:
    from llmengine.mock import RawReply, ReceivedRequest


def test_a_slow_server_is_not_kept_busy_with_a_prompt_of_the_whole_context() -> None:
    """The time of a short prompt tells that the long one is late, and it is not sent."""

    def wire(reply: RawReply, call: ReceivedRequest) -> RawReply:
        if len(call.body) > 500:
            sleep(0.5)
        return reply

    (check,) = select(ids=["ctx.boundary"])
    with (
        MockServer(behaviour=Behaviour("slow", wire=wire)) as server,
        Target(server.base_url, server.model, limits=Limits(answer=20)) as target,
    ):
        result = run_check(check, target, Profile("mock"))
    assert result.outcome is Outcome.UNMEASURED
    assert "would take the server about" in result.reason
    assert max(len(call.body) for call in server.calls) < 2000
