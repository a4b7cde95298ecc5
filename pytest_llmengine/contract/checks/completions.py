"""Checks of comp: the legacy completions endpoint."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import missing, need_text, objects, pick, rejected, usage
from pytest_llmengine.contract.facts import USAGE_DROPPED
from pytest_llmengine.contract.outcomes import expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXTENDED, REQUIRED, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="completions")

SPEC = "openai-openapi: CreateCompletion"
NEEDS = {Capability.COMPLETIONS}


@rule("comp.shape", level=REQUIRED, tier=EXTENDED, source=f"{SPEC}Response.required", needs=NEEDS)
def shape(target: Target) -> None:
    """A completion has its fields, and each choice text, index, logprobs and finish_reason.

    The openai SDK's types promise these fields, so that reading them raises an error.
    """
    body = _post(target).success_or_refused()
    absent = missing(body, "id", "object", "created", "model", "choices")
    expect(not absent, f"missing: {', '.join(absent)}")
    expect(body["object"] == "text_completion", f"object is {body['object']!r}")
    first = pick(body, dict, "choices", 0)
    absent = missing(first, "text", "index", "logprobs", "finish_reason")
    expect(not absent, f"the choice has no {', '.join(absent)}")
    pick(first, str, "text")


@rule(
    "comp.prompt.list",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Request.prompt: array of strings",
    needs=NEEDS,
)
def prompt_list(target: Target) -> None:
    """A list of prompts gives one choice a prompt, by index.

    A batch of prompts gets one text, or texts of other prompts.
    """
    _expect_indexes(_post(target, prompt=["Once", "The sea"]).success_or_refused(), 2)


@rule(
    "comp.prompt.tokens",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Request.prompt: array of tokens",
    needs=NEEDS,
)
def prompt_tokens(target: Target) -> None:
    """A prompt of token ids gives one choice, and counts as many tokens as it has ids.

    A program that tokenizes by itself, as evaluations do, is answered to another prompt.
    """
    ids = [1000, 1001, 1002]
    body = _post(target, prompt=ids).success_or_refused()
    _expect_indexes(body, 1)
    count = usage(body, "prompt_tokens")
    expect(len(ids) <= count <= len(ids) + 2, f"{count} prompt tokens for {len(ids)} token ids")


@rule(
    "comp.stream.usage",
    level=REQUIRED,
    tier=EXTENDED,
    source="openai-openapi: ChatCompletionStreamOptions.include_usage",
    needs=NEEDS | {Capability.STREAMING},
)
def stream_usage(target: Target) -> None:
    """With include_usage the last chunk has the usage and no choices, and no other has usage.

    A client that sums the usage of its streams counts nothing, or counts it twice.
    """
    reply = _post(target, stream=True, stream_options={"include_usage": True})
    chunks = reply.objects_or_refused()
    expect_effect(
        any(chunk.get("usage") for chunk in chunks),
        "include_usage was accepted and no chunk has a usage",
        fact=USAGE_DROPPED,
    )
    last = chunks[-1]
    expect(last.get("choices") == [], f"the last chunk has choices: {quote(last)}")
    if not (counted := pick(last, int, "usage", "completion_tokens")):
        need_text(
            "".join(str(c.get("text") or "") for one in chunks for c in objects(one, "choices"))
        )
    expect(counted > 0, f"nothing counted: {quote(last)}")
    early = [chunk["usage"] for chunk in chunks[:-1] if chunk.get("usage")]
    expect(not early, f"{len(early)} chunks before the last have a usage")


@rule(
    "comp.missing_prompt",
    level=REQUIRED,
    tier=EXTENDED,
    source=f"{SPEC}Request.required",
    needs=NEEDS,
)
def missing_prompt(target: Target) -> None:
    """A completion without a prompt is a 400.

    A program that misspells the field gets a text about nothing, instead of an error.
    """
    _post(target).success_or_refused()
    reply = target.post("/completions", {"model": target.model, "max_tokens": 4})
    rejected(reply, "a completion without a prompt")


def _post(target: Target, **params: Any) -> Reply:
    body = {"model": target.model, "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0}
    return target.post("/completions", body | params)


def _expect_indexes(body: dict[str, Any], count: int) -> None:
    indexes = sorted(pick(choice, int, "index") for choice in objects(body, "choices"))
    expect(indexes == list(range(count)), f"the choices have the indexes {indexes}")
    for choice in objects(body, "choices"):
        pick(choice, str, "text")
