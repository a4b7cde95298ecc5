"""Checks of usage: the token counts of an answer add up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import choice, objects, pick, usage
from pytest_llmengine.contract.outcomes import Unmeasured, expect
from pytest_llmengine.contract.registry import (
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="usage")

SPEC = "openai-openapi: CompletionUsage"


@rule("usage.present_sum", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required")
def present_sum(target: Target) -> None:
    """The usage counts prompt and completion, and their sum is the total."""
    body = target.chat(max_tokens=8).success()
    choice(body)
    prompt, completion, total = (
        usage(body, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    expect(prompt > 0, f"prompt_tokens is {prompt}")
    expect(completion > 0, f"completion_tokens is {completion}")
    expect(prompt + completion == total, f"{prompt} + {completion} tokens, total_tokens is {total}")


@rule(
    "usage.n_sums_choices",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.completion_tokens: the generated completion, all choices of it",
    needs={Capability.N},
)
def n_sums_choices(target: Target) -> None:
    """The completion_tokens of an n of 2 count both choices."""
    prompt = "Count from one to fifty in words."
    # Not 0, because vLLM refuses two choices then; low, so that both reach the token cap.
    body = target.chat(prompt, n=2, temperature=0.1, max_tokens=4).success_or_refused()
    reasons = [c.get("finish_reason") for c in objects(body, "choices")]
    if reasons != ["length", "length"]:
        raise Unmeasured(f"two choices cut by the cap are needed, these ended by {reasons}")
    came = usage(body, "completion_tokens")
    expect(came == 8, f"two choices of 4 tokens each, completion_tokens is {came}")


@rule(
    "usage.cached_subset",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.prompt_tokens_details.cached_tokens",
)
def cached_subset(target: Target) -> None:
    """The cached tokens are among the prompt's tokens."""
    target.chat(max_tokens=1)
    body = target.chat(max_tokens=1).success()
    choice(body)
    prompt = usage(body, "prompt_tokens")
    if not body["usage"].get("prompt_tokens_details"):
        raise Unmeasured("the usage has no prompt_tokens_details")
    cached = pick(body, int, "usage", "prompt_tokens_details", "cached_tokens")
    expect(0 <= cached <= prompt, f"{cached} cached tokens of {prompt} prompt tokens")
