"""Checks of chat.stream.usage: a stream has token counts if they were requested."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import Chunks, need_text, pick, stream_chat, text
from pytest_llmengine.contract.facts import USAGE_DROPPED
from pytest_llmengine.contract.outcomes import expect, expect_effect, quote
from pytest_llmengine.contract.registry import CORE, EXPECTED, EXTENDED, REQUIRED, SMOKE, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="chat.stream.usage")

SPEC = "openai-openapi: ChatCompletionStreamOptions.include_usage"
NEEDS = {Capability.STREAMING}


@rule("chat.stream.usage.absent_by_default", level=REQUIRED, tier=CORE, source=SPEC, needs=NEEDS)
def absent_by_default(target: Target) -> None:
    """A stream carries no usage unless it was asked for.

    Clients that index choices[0] in every chunk raise an IndexError.
    """
    chunks = stream_chat(target, max_tokens=4)
    given = [chunk["usage"] for chunk in chunks if chunk.get("usage") is not None]
    expect(not given, f"usage without include_usage: {quote(given)}")


@rule("chat.stream.usage.final_chunk", level=REQUIRED, tier=SMOKE, source=SPEC, needs=NEEDS)
def final_chunk(target: Target) -> None:
    """With include_usage the last chunk has the usage of the request and no choices.

    Token counts and costs of streams are missing.
    """
    chunks = _with_usage(target)
    last = chunks[-1]
    expect(last.get("usage"), f"the last chunk has no usage: {quote(last)}")
    expect(last["choices"] == [], f"the usage chunk has choices: {quote(last['choices'])}")
    prompt, completion, total = (
        pick(last, int, "usage", key)
        for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    if not completion:
        need_text(text(chunks))
    expect(completion > 0, f"the usage counts no token: {quote(last['usage'])}")
    expect(total == prompt + completion, f"the total is not the sum: {quote(last['usage'])}")


@rule("chat.stream.usage.null_elsewhere", level=EXPECTED, tier=CORE, source=SPEC, needs=NEEDS)
def null_elsewhere(target: Target) -> None:
    """With include_usage every other chunk has a usage of null.

    Clients that add up the usage of every chunk count it several times.
    """
    others = _with_usage(target)[:-1]
    absent = [chunk for chunk in others if "usage" not in chunk]
    expect(not absent, f"{len(absent)} of {len(others)} chunks have no usage key")
    given = [chunk["usage"] for chunk in others if chunk["usage"] is not None]
    expect(not given, f"{len(given)} of {len(others)} chunks have a usage: {quote(given)}")


@rule(
    "chat.stream.usage.equals_nonstream",
    level=EXPECTED,
    tier=EXTENDED,
    source="openai-openapi: CompletionUsage.prompt_tokens: number of tokens in the prompt",
    needs=NEEDS,
)
def equals_nonstream(target: Target) -> None:
    """The same prompt counts the same tokens, streamed or not.

    The same prompt is billed differently when it is streamed.
    """
    streamed = pick(_with_usage(target)[-1], int, "usage", "prompt_tokens")
    whole = pick(target.chat(max_tokens=4).success(), int, "usage", "prompt_tokens")
    expect(streamed == whole, f"prompt_tokens is {streamed} in the stream and {whole} in the whole")


def _with_usage(target: Target) -> Chunks:
    """A stream with requested usage; the check ends as ignored if there is none."""
    chunks = stream_chat(target, max_tokens=4, stream_options={"include_usage": True})
    expect_effect(
        any(chunk.get("usage") for chunk in chunks),
        "include_usage was accepted and no chunk has a usage",
        fact=USAGE_DROPPED,
    )
    return chunks
