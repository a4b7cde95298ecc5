"""Mutants of refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.checks.refusal import CHAT_FEATURES, ENDPOINTS, RESPONSE_FEATURES
from pytest_llmengine.contract.mutants.hooks import answering, forgets, put
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest

# A server that takes all parts of a request, and answers as if those it does not know were absent.
_DROPPING = Behaviour(
    "dropped",
    without_rules=frozenset(
        {
            "chat.not_played",
            "resp.invalid.prompt",
            "resp.moderation",
            "resp.not_played",
            "resp.tools.shape",
            "tools.shape",
        }
    ),
)


def _crash(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if reply.status >= 400:
        reply.status = 500
    return reply


mutant("refusal.custom_tool", Behaviour("dropped", request=forgets("tools", "tool_choice")))
for name in sorted({**CHAT_FEATURES, **RESPONSE_FEATURES}.keys() - {"custom_tool"}):
    mutant(f"refusal.{name}", _DROPPING)
    mutant(f"refusal.{name}", Behaviour("a crash", wire=_crash))
    mutant(f"refusal.{name}", Behaviour("no words", error=put("", "error", "message")))


def _is_one_of_them(call: ReceivedRequest) -> bool:
    return call.path in {f"/v1{row.path}" for row in ENDPOINTS.values()}


def _crash_there(reply: RawReply, call: ReceivedRequest) -> RawReply:
    if _is_one_of_them(call):  # the mock has some of them
        reply.status = 500
    return reply


for name in ENDPOINTS:
    empty = answering(200, {}, when=_is_one_of_them)
    mutant(f"refusal.endpoint.{name}", Behaviour("an empty answer", wire=empty))
    mutant(f"refusal.endpoint.{name}", Behaviour("a crash", wire=_crash_there))
