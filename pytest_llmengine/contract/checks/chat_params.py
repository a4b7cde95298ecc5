"""Checks of chat.params: an accepted parameter has its effect."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import find_stop, full_text, objects, pick, usage
from pytest_llmengine.contract.outcomes import expect, expect_effect
from pytest_llmengine.contract.registry import (
    CORE,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.params")

SPEC = "openai-openapi: CreateChatCompletionRequest"
LONG_PROMPT = "Count from one to fifty in words."


@rule("chat.max_tokens", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.max_tokens")
def max_tokens(target: Target) -> None:
    """The answer has no more tokens than max_tokens."""
    _expect_cap(target, max_tokens=5)


@rule(
    "chat.max_completion_tokens",
    level=REQUIRED,
    tier=SMOKE,
    source=f"{SPEC}.max_completion_tokens; ollama/ollama#7125",
)
def max_completion_tokens(target: Target) -> None:
    """The answer has no more tokens than max_completion_tokens."""
    _expect_cap(target, max_tokens=..., max_completion_tokens=5)


@rule("chat.stop.string_array", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.stop")
def stop_string_array(target: Target) -> None:
    """A stop sequence, alone or in a list, ends the text just before it."""
    stopping = find_stop(target)
    stopping.stop(target, stopping.word)
    stopping.stop(target, ["@@never@@", stopping.word])


@rule("chat.n.multiple", level=REQUIRED, tier=CORE, source=f"{SPEC}.n", needs={Capability.N})
def n_multiple(target: Target) -> None:
    """An n of 2 gives two choices, with the indexes 0 and 1."""
    # vLLM rejects n=2 at temperature 0, because both choices would be equal.
    body = target.chat(n=2, temperature=1, max_tokens=4).success_or_refused()
    choices = objects(body, "choices")
    expect_effect(len(choices) != 1, "n=2 was accepted, and one choice came")
    indexes = sorted(pick(c, int, "index") for c in choices)
    expect(indexes == [0, 1], f"n=2: the choices have the indexes {indexes}")
    for c in choices:
        pick(c, dict, "message")


@rule(
    "chat.seed.repeatable",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.seed: best effort, deprecated",
    needs={Capability.SEED},
)
def seed_repeatable(target: Target) -> None:
    """The same seed gives the same text twice, also at temperature 1."""
    first, second = (
        full_text(
            target.chat(
                "Invent a name for a planet.", temperature=1, seed=7, max_tokens=12
            ).success_or_refused()
        )
        for _ in range(2)
    )
    expect_effect(first == second, f"seed=7 gave {first!r}, then {second!r}")


@rule(
    "chat.logit_bias",
    level=REQUIRED,
    tier=CORE,
    source=f"{SPEC}.logit_bias: 100 should result in exclusive selection",
    needs={Capability.LOGIT_BIAS},
)
def logit_bias(target: Target) -> None:
    """A logit_bias of 100 for one token changes the answer."""
    plain = target.chat(max_tokens=4).success()
    # Every vocabulary has a token 100; its text does not matter.
    biased = target.chat(max_tokens=4, logit_bias={"100": 100}).success_or_refused()
    expect_effect(
        full_text(plain) != full_text(biased),
        f"logit_bias of 100 for one token left {full_text(plain)!r} as it was",
    )


@rule("chat.user", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.user")
def user(target: Target) -> None:
    """The parameter user is accepted."""
    _expect_accepted(target, user="user-1")


@rule("chat.metadata", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.metadata")
def metadata(target: Target) -> None:
    """The parameter metadata is accepted."""
    _expect_accepted(target, metadata={"purpose": "contract"})


@rule("chat.store", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.store")
def store(target: Target) -> None:
    """The parameter store is accepted."""
    _expect_accepted(target, store=False)


@rule("chat.service_tier", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.service_tier")
def service_tier(target: Target) -> None:
    """The parameter service_tier is accepted."""
    _expect_accepted(target, service_tier="auto")


def _expect_cap(target: Target, **cap: Any) -> None:
    body = target.chat(LONG_PROMPT, **cap).success()
    text, came = full_text(body), usage(body, "completion_tokens")
    limits = {name: value for name, value in cap.items() if value is not ...}
    expect_effect(came <= 5, f"{limits}: {came} tokens came: {text[:80]!r}")


def _expect_accepted(target: Target, **params: Any) -> None:
    full_text(target.chat(max_tokens=4, **params).success_or_refused())
