"""Checks of usage: the token counts of an answer add up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import choice, control, full_text, objects, pick, usage
from pytest_llmengine.contract.facts import N_DROPPED
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect
from pytest_llmengine.contract.registry import (
    EXPECTED,
    EXTENDED,
    OPTIONAL,
    REQUIRED,
    SMOKE,
    check,
)

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="usage")

SPEC = "openai-openapi: CompletionUsage"


@rule("usage.present_sum", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required")
def present_sum(target: Target) -> None:
    """The usage counts prompt and completion, and their sum is the total.

    Costs and budgets are computed from wrong numbers.
    """
    body = target.chat(max_tokens=8).success()
    choice(body)
    prompt, completion, total = (
        usage(body, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    expect(prompt > 0, f"prompt_tokens is {prompt}")
    expect(completion > 0 or not full_text(body), f"completion_tokens is {completion}")
    expect(prompt + completion == total, f"{prompt} + {completion} tokens, total_tokens is {total}")


@rule(
    "usage.n_sums_choices",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.completion_tokens: the generated completion, all choices of it",
    needs={Capability.N},
)
def n_sums_choices(target: Target) -> None:
    """The completion_tokens of an n of 2 count both choices.

    Only a part of the cost of a call is seen.
    """
    prompt = "Count from one to fifty in words."
    # Not 0, because vLLM refuses two choices then; low, so that both reach the token cap.
    body = target.chat(prompt, n=2, temperature=0.1, max_tokens=4).success_or_refused()
    reasons = [c.get("finish_reason") for c in objects(body, "choices")]
    expect_effect(len(reasons) != 1, "n=2 was accepted, and one choice came", fact=N_DROPPED)
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
    """The cached tokens are among the prompt's tokens.

    The cost of the tokens that are not cached comes out below zero.
    """
    target.chat(max_tokens=1)
    body = target.chat(max_tokens=1).success()
    choice(body)
    prompt = usage(body, "prompt_tokens")
    if not body["usage"].get("prompt_tokens_details"):
        raise Unmeasured("the usage has no prompt_tokens_details")
    cached = pick(body, int, "usage", "prompt_tokens_details", "cached_tokens")
    expect(0 <= cached <= prompt, f"{cached} cached tokens of {prompt} prompt tokens")


@rule(
    "usage.prompt_tokens_exact",
    level=EXPECTED,
    tier=EXTENDED,
    source=f"{SPEC}.prompt_tokens",
    since="2026-11-27",
    breaks="Bills, budgets and the room that is left in the context are computed from a wrong "
    "number.",
)
def prompt_tokens_exact(target: Target) -> None:
    """The prompt_tokens are the number of tokens that the server's own tokenizer counts."""
    control(target)
    for messages in CONVERSATIONS:
        counted = _count(target, messages)
        came = usage(target.chat(messages, max_tokens=1).success(), "prompt_tokens")
        expect(came == counted, f"prompt_tokens is {came}, and the tokenizer counts {counted}")


@rule(
    "usage.cached_tokens",
    level=OPTIONAL,
    tier=EXTENDED,
    source=f"{SPEC}.prompt_tokens_details.cached_tokens; OpenAI docs: guides/prompt-caching",
    since="2026-11-27",
    breaks="Cached tokens are cheaper, so the cost of a call is computed from a wrong number.",
    alone=True,
)
def cached_tokens(target: Target) -> None:
    """Of a long prompt that is sent twice, most tokens are cached the second time only."""
    control(target)
    first, second = (_cached(target) for _ in range(2))
    new, again = first[0], second[0]
    for cached, prompt in (first, second):
        expect(0 <= cached <= prompt, f"{cached} cached tokens of {prompt} prompt tokens")
    expect(new < first[1] / 2, f"{new} of {first[1]} tokens are cached of a prompt that is new")
    if again <= new:
        raise Unmeasured("the server reports no cached tokens for a prompt that it has just read")


CONVERSATIONS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Say hello."}],
    [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "Was heißt „水“? 🦊"},
        {"role": "assistant", "content": "  Water.\n\n"},
        {"role": "user", "content": "def f(x):\n    return x[1:] + 1234567890"},
    ],
)


def _count(target: Target, messages: list[dict[str, str]]) -> int:
    """The number of tokens that vLLM's or llama.cpp's tokenizer counts."""
    shown = target.post("/apply-template", {"messages": messages}, root=True)
    text = {"content": _field(shown, "prompt"), "add_special": True, "parse_special": True}
    body = text if text["content"] else {"model": target.model, "messages": messages}
    reply = target.post("/tokenize", body, root=True)
    if not isinstance(tokens := _field(reply, "tokens"), list) or not tokens:
        raise Unmeasured("the server has no route that counts tokens")
    return len(tokens)


def _field(reply: Reply, name: str) -> object:
    value = reply.json() if reply.ok and reply.content_type == "application/json" else None
    return value.get(name) if isinstance(value, dict) else None


def _cached(target: Target) -> tuple[int, int]:
    """The cached tokens and all tokens of a prompt that no other check sends."""
    prompt = "Seven grey herons. " * 270
    body = target.chat(prompt, max_tokens=1).success()
    if not (body.get("usage") or {}).get("prompt_tokens_details"):
        raise Unmeasured("the usage has no prompt_tokens_details")
    cached = pick(body, int, "usage", "prompt_tokens_details", "cached_tokens")
    return cached, usage(body, "prompt_tokens")
