"""Checks of conc: requests at the same time do not affect each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import choice, chunks_of, finish_reasons, pick, usage
from pytest_llmengine.contract.jobs import at_once
from pytest_llmengine.contract.outcomes import expect, fail
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="conc")

SOURCE = "clients send many requests at once"
# Each prompt is longer than the one before, so prompt_tokens shows to which one an answer belongs.
PROMPTS = tuple("Say hello" + " and hello" * 4 * n + "." for n in range(4))


@rule("conc.isolation", level=QUIRK, tier=EXTENDED, source=SOURCE)
def isolation(target: Target) -> None:
    """Four requests at once each get the answer to their own prompt."""
    alone = [_prompt_tokens(target, prompt) for prompt in PROMPTS]
    expect(sorted(set(alone)) == alone, f"prompts of growing length have {alone} tokens")
    together = at_once([partial(_prompt_tokens, target, prompt) for prompt in PROMPTS])
    expect(together == alone, f"prompts of {alone} tokens got answers to {together}")


@rule("conc.unique_ids", level=QUIRK, tier=EXTENDED, source=SOURCE)
def unique_ids(target: Target) -> None:
    """Four answers given at once have four ids."""
    ids = at_once([partial(_id, target)] * 4)
    expect(all(ids), "an id is empty")
    expect(len(set(ids)) == len(ids), f"an id came twice: {', '.join(sorted(ids))}")


@rule(
    "conc.stream_and_json_mixed",
    level=QUIRK,
    tier=EXTENDED,
    source=SOURCE,
    needs={Capability.STREAMING},
)
def stream_and_json_mixed(target: Target) -> None:
    """Streams and whole answers at the same time all come to their end."""
    reasons = at_once([partial(_end_of_stream, target), partial(_end_of_answer, target)] * 2)
    open_ended = [number for number, reason in enumerate(reasons) if not reason]
    expect(not open_ended, f"answers without a finish_reason: {open_ended} of {len(reasons)}")


def _prompt_tokens(target: Target, prompt: str) -> int:
    body = target.chat(prompt, max_tokens=4).success()
    choice(body)
    return usage(body, "prompt_tokens")


def _id(target: Target) -> str:
    return pick(target.chat(max_tokens=4).success(), str, "id")


def _end_of_stream(target: Target) -> object:
    reply = target.chat(max_tokens=8, stream=True)
    if reply.cut:
        fail("a stream broke off")
    return finish_reasons(chunks_of(reply))


def _end_of_answer(target: Target) -> object:
    return choice(target.chat(max_tokens=8).success()).get("finish_reason")
