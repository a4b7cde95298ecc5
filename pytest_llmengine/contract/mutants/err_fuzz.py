"""Mutants of err.fuzz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest

TRACE = 'Traceback (most recent call last):\n  File "/srv/app.py", line 7, in chat'


def _crashing(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 500 if reply.status == 400 else reply.status
    return reply


mutant("err.no_5xx_on_client_error", Behaviour("crashes", wire=_crashing))
mutant("err.no_internal_leak", Behaviour("a trace", error=put(TRACE, "error", "message")))
mutant("err.no_internal_leak", Behaviour("a novel", error=put("a" * 20_000, "error", "message")))
