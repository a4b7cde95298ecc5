"""Mutants of auth; they are variants of a mock that requires a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour, RawReply
from pytest_llmengine.contract.mutants.hooks import answering, rule_off
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import ReceivedRequest


def _forbidden(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 403 if reply.status == 401 else reply.status
    return reply


def _in_small_letters(call: ReceivedRequest) -> bool:
    return call.headers.get("authorization", "").startswith("bearer ")


for name in ("auth.missing", "auth.bad", "auth.models_protected"):
    rule_off(name)
    mutant(name, Behaviour("403 for 401", wire=_forbidden))

mutant(
    "auth.scheme_case",
    Behaviour("Bearer only", wire=answering(401, {"error": {}}, when=_in_small_letters)),
)
