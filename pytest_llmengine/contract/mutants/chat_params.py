"""Mutants of chat.params."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from llmengine.mock.behaviour import Behaviour
from pytest_llmengine.contract.mutants.hooks import ignoring, in_streams, put, refusing
from pytest_llmengine.contract.mutants.registry import mutant

if TYPE_CHECKING:
    from llmengine.mock.behaviour import JSON, ReceivedRequest

_chance = count()


def _first_stop_alone(body: JSON, call: ReceivedRequest) -> JSON:
    if isinstance(body.get("stop"), list):
        body["stop"] = body["stop"][:1]
    return body


def _stop_kept_in_text(body: JSON, call: ReceivedRequest) -> JSON:
    if "stop" in call.json:
        stop = call.json["stop"]
        body["choices"][0]["message"]["content"] += stop if isinstance(stop, str) else stop[-1]
    return body


def _stopped_too_early(body: JSON, call: ReceivedRequest) -> JSON:
    if "stop" in call.json:
        message = body["choices"][0]["message"]
        message["content"] = message["content"][:3]
    return body


def _other_text(body: JSON, call: ReceivedRequest) -> JSON:
    if call.method == "GET" and call.path.startswith("/v1/chat/completions/"):
        body["choices"][0]["message"]["content"] = "Another text."
    return body


def _seed_by_chance(body: JSON, call: ReceivedRequest) -> JSON:
    return {**body, "seed": next(_chance)}


mutant("chat.max_tokens", Behaviour("cap ignored", request=ignoring("max_tokens")))
mutant(
    "chat.max_completion_tokens",
    Behaviour("cap ignored", request=ignoring("max_completion_tokens")),
)
mutant("chat.stop.string_array", Behaviour("stop ignored", request=ignoring("stop")))
mutant("chat.stop.string_array", Behaviour("first stop alone", request=_first_stop_alone))
mutant("chat.stop.string_array", Behaviour("stop kept in the text", reply=_stop_kept_in_text))
mutant("chat.stop.string_array", Behaviour("stopped too early", reply=_stopped_too_early))
mutant("chat.n.multiple", Behaviour("n ignored", request=ignoring("n")))
mutant("chat.n.multiple", Behaviour("index 0 twice", reply=put(0, "choices", 1, "index")))
mutant("chat.seed.repeatable", Behaviour("a seed by chance", request=_seed_by_chance))
mutant("chat.logit_bias", Behaviour("bias ignored", request=ignoring("logit_bias")))

for name in ("user", "metadata", "store", "service_tier"):
    mutant(f"chat.{name}", Behaviour(f"{name} ignored", request=ignoring(name)))
mutant("chat.user", Behaviour("user ignored in streams", request=in_streams(ignoring("user"))))
mutant("chat.user", Behaviour("user refused", request=refusing(lambda body: "user" in body)))
mutant("chat.service_tier", Behaviour("another tier", reply=put("flex", "service_tier")))
mutant("chat.service_tier", Behaviour("a list of tiers", reply=put(["default"], "service_tier")))
mutant("chat.store", Behaviour("another text is stored", reply=_other_text))
