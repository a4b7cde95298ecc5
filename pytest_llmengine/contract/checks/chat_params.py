"""Checks of chat.params: an accepted parameter has its effect."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import content, find_stop, objects, pick, rejected
from pytest_llmengine.contract.checks.effects import Repeats, TextChanges, TokensAtMost, effect
from pytest_llmengine.contract.facts import N_DROPPED
from pytest_llmengine.contract.observations import chat
from pytest_llmengine.contract.outcomes import expect, expect_effect, quote
from pytest_llmengine.contract.registry import (
    CORE,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)
from pytest_llmengine.contract.stored_answers import stored, tier_of

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.params")

SPEC = "openai-openapi: CreateChatCompletionRequest"
LONG_PROMPT = "Count from one to fifty in words."
params = partial(effect, way=chat, group="chat.params", since="")


for limit, tied, source in (
    ("max_tokens", {}, f"{SPEC}.max_tokens"),
    (
        "max_completion_tokens",
        {"max_tokens": ...},
        f"{SPEC}.max_completion_tokens; ollama/ollama#7125",
    ),
):
    params(
        f"chat.{limit}",
        measure=TokensAtMost(5, {"prompt": LONG_PROMPT, **tied}),
        title=f"The answer has no more tokens than {limit}.",
        breaks="An answer costs more, and takes longer, than the client allowed.",
        source=source,
        tier=SMOKE,
    )


@rule("chat.stop.string_array", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.stop")
def stop_string_array(target: Target) -> None:
    """A stop sequence, alone or in a list, ends the text just before it.

    A parser runs past the end that it asked for.
    """
    stopping = find_stop(target)
    stopping.stop(target, stopping.word)
    stopping.stop(target, ["@@never@@", stopping.word])


@rule("chat.n.multiple", level=REQUIRED, tier=CORE, source=f"{SPEC}.n", needs={Capability.N})
def n_multiple(target: Target) -> None:
    """An n of 2 gives two choices, with the indexes 0 and 1.

    A program that samples several answers gets one, or mixes them up.
    """
    # vLLM rejects n=2 at temperature 0, because both choices would be equal.
    body = target.chat(n=2, temperature=1, max_tokens=4).success_or_refused()
    choices = objects(body, "choices")
    expect_effect(len(choices) != 1, "n=2 was accepted, and one choice came", fact=N_DROPPED)
    indexes = sorted(pick(c, int, "index") for c in choices)
    expect(indexes == [0, 1], f"n=2: the choices have the indexes {indexes}")
    for c in choices:
        pick(c, dict, "message")


params(
    "chat.seed.repeatable",
    measure=Repeats({"temperature": 1, "seed": 7}, {"temperature": 1}, {"temperature": 0}),
    title="The same seed gives the same text at temperature 1, and other seeds give others.",
    breaks="An answer cannot be repeated for a test or a bug report.",
    name="seed",
    source=f"{SPEC}.seed: best effort, deprecated",
    level=OPTIONAL,
    needs={Capability.SEED},
)
params(
    "chat.logit_bias",
    # Every vocabulary has a token 100; its text does not matter.
    measure=TextChanges({"logit_bias": {"100": 100}}, {"max_tokens": 4}),
    title="A logit_bias of 100 for one token changes the answer.",
    breaks="A classifier that allows only some tokens gets any text.",
    source=f"{SPEC}.logit_bias: 100 should result in exclusive selection",
    tier=CORE,
    needs={Capability.LOGIT_BIAS},
)


@rule("chat.user", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.user")
def user(target: Target) -> None:
    """The user is a string, whole and in a stream: a number is rejected.

    A server that does not know the field cannot report or limit the user of an application.
    """
    for stream in (False, True):
        named = target.chat(max_tokens=1, user="user-1", stream=stream)
        expect(not named.is_refusal, f"the user user-1 is refused: {quote(named.text)}")
        if stream:
            named.objects()
        else:
            named.success()
        rejected(target.chat(max_tokens=1, user=1, stream=stream), "a user that is a number")


@rule("chat.store", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.store")
def store(target: Target) -> None:
    """An answer that was stored can be retrieved by its id.

    An application that keeps only the ids of its conversations loses them.
    """
    body = target.chat(max_tokens=4, store=True).success_or_refused()
    stored(target, body.get("id"), content(body))


@rule("chat.metadata", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.metadata")
def metadata(target: Target) -> None:
    """The metadata of a stored answer come back with it.

    Stored answers cannot be told apart by the labels that the application gave them.
    """
    given = {"purpose": "contract"}
    body = target.chat(max_tokens=4, store=True, metadata=given).success_or_refused()
    kept = stored(target, body.get("id"), content(body)).get("metadata")
    expect_effect(kept == given, f"the metadata {quote(given)} came back as {quote(kept)}")


@rule("chat.service_tier", level=OPTIONAL, tier=EXTENDED, source=f"{SPEC}.service_tier")
def service_tier(target: Target) -> None:
    """A request for the default service_tier is answered with that tier.

    A client cannot see how its request was processed, and what it costs.
    """
    body = target.chat(max_tokens=4, service_tier="default").success_or_refused()
    content(body)
    tier_of(body)
