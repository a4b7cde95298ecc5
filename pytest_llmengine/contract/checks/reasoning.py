"""Checks of reasoning: a model's reasoning is separate from its answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    REASONING_FIELDS,
    choice,
    content,
    deltas,
    message,
    pick,
    reasoning,
    stream_chat,
    tool_calls,
    usage,
)
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, OPTIONAL, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="reasoning")

NEEDS = {Capability.REASONING}
ASK = "What is 2 + 2? Answer with one number."
THINKING = {"reasoning_effort": "low", "max_tokens": 400}
_TAGS = ("<think>", "</think>", "<|channel|>", "<thinking>")


@rule(
    "reasoning.field_name",
    level=QUIRK,
    tier=EXTENDED,
    source="strands-agents/harness-sdk#2182: engines say reasoning or reasoning_content",
    needs=NEEDS | {Capability.STREAMING},
)
def field_name(target: Target) -> None:
    """Reasoning is a string in reasoning or reasoning_content, by one name, streamed or not.

    Clients look for the reasoning under a name that is not there.
    """
    whole = _names([message(_reasoned(target))])
    streamed = _names(deltas(stream_chat(target, ASK, **THINKING)))
    expect(whole == streamed, f"reasoning is in {whole} in the whole and {streamed} in the stream")


@rule(
    "reasoning.not_in_content",
    level=QUIRK,
    tier=EXTENDED,
    source="vllm 0.20.2: docs/features/reasoning_outputs.md",
    needs=NEEDS,
)
def not_in_content(target: Target) -> None:
    """The content holds none of the tags that a model writes around its reasoning.

    Users see the model's thoughts, and parsers of the answer fail on them.
    """
    answer = content(target.chat(ASK, **THINKING).success_or_refused())
    found = [tag for tag in _TAGS if tag in answer]
    expect(not found, f"{found} in the content: {quote(answer)}")
    _reasoned(target)


@rule(
    "reasoning.not_only",
    level=QUIRK,
    tier=EXTENDED,
    source="MiniMax-AI/MiniMax-Provider-Verifier main: README.md: never reasoning without "
    "an answer",
    needs=NEEDS,
)
def not_only(target: Target) -> None:
    """An answer that ends with stop holds more than reasoning.

    The application shows an empty answer.
    """
    body = _reasoned(target)
    if choice(body).get("finish_reason") != "stop":
        raise Unmeasured(f"the finish reason is {choice(body).get('finish_reason')!r}, not stop")
    expect(content(body) or tool_calls(body), f"only reasoning: {quote(reasoning(body))}")


@rule(
    "reasoning.tokens_counted",
    level=OPTIONAL,
    tier=EXTENDED,
    source="openai-openapi: CompletionUsage.completion_tokens_details.reasoning_tokens",
    needs=NEEDS,
)
def tokens_counted(target: Target) -> None:
    """The tokens of the reasoning are counted, as a part of the completion's.

    The cost of thinking cannot be told from the cost of the answer.
    """
    body = _reasoned(target)
    total = usage(body, "completion_tokens")
    count = pick(body, int, "usage", "completion_tokens_details", "reasoning_tokens")
    expect(0 < count <= total, f"{count} reasoning tokens of {total} completion tokens")


def _reasoned(target: Target) -> dict[str, Any]:
    """An answer with reasoning; unmeasured if there is no reasoning."""
    body = target.chat(ASK, **THINKING).success_or_refused()
    if not reasoning(body):
        raise Unmeasured(f"no reasoning in the answer {content(body)!r}")
    return body


def _names(parts: list[dict[str, Any]]) -> list[str]:
    """The fields that hold reasoning text in a message or in deltas."""
    return [name for name in REASONING_FIELDS if any(part.get(name) for part in parts)]
