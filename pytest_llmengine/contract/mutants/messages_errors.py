"""Mutants of messages.errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.checks.messages_errors import REJECTIONS
from pytest_llmengine.contract.mutants.hooks import crashes_on, put, rule_off, taking, without
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import RawReply, ReceivedRequest


def _fails_on_a_cut_body(reply: RawReply, call: ReceivedRequest) -> RawReply:
    reply.status = 500 if call.body == b'{"model": ' else reply.status
    return reply


for rejection in REJECTIONS:
    rule_off(f"messages.{rejection.name}")
rule_off("messages.version")
mutant(
    "messages.version.sampling",
    Behaviour("the version is not read", without_rules=frozenset({"messages.version"})),
)

mutant(
    "messages.malformed_json",
    Behaviour("any body is read", without_rules=frozenset({"err.malformed_json"})),
)
mutant("messages.malformed_json", Behaviour("a crash", wire=crashes_on(b'{"model": ')))
mutant(
    "messages.unknown_model",
    Behaviour("any model is served", without_rules=frozenset({"err.unknown_model"})),
)
mutant("messages.unknown_model", Behaviour("another type", error=put("api_error", "error", "type")))
mutant("messages.error.envelope", Behaviour("no type of the body", error=without("type")))
mutant("messages.error.envelope", Behaviour("no message", error=without("error", "message")))
mutant(
    "messages.error.envelope", Behaviour("OpenAI's type", error=put("BadRequest", "error", "type"))
)
mutant(
    "messages.error.envelope",
    Behaviour(
        "OpenAI's envelope around a 500",
        error=without("type"),
        wire=_fails_on_a_cut_body,
        without_rules=frozenset({"messages.wrong_type.max_tokens"}),
    ),
)
for field, text, value in (("max_tokens", "5", 5), ("stream", "yes", True)):
    converted = Behaviour(f"{field} is converted", request=taking(value, text, field))
    mutant(f"messages.wrong_type.{field}", converted)
mutant("messages.error.type", Behaviour("another type", error=put("api_error", "error", "type")))
