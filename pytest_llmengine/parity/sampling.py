"""Every value that decides which token comes next, sent with every request.

A server fills in what a request leaves open from the model's generation_config.json, and two
servers of one model need not do so alike. So nothing is left open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from pytest_llmengine.parity.prompt import Prompt

PINNED: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
}
"""Greedy, without any filter or penalty."""

TOP = 5
"""How many alternatives of each token are asked for."""


def pinned(prompt: Prompt, *, logprobs: bool, token_ids: bool) -> SamplingParams:
    """The sampling parameters for a prompt, with nothing left to a default."""
    return SamplingParams(
        **PINNED,
        max_tokens=prompt.max_tokens,
        logprobs=TOP if logprobs else None,
        return_token_ids=token_ids or None,
    )
