"""How many tokens an answer took, in OpenAI's shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.mock.behaviour import JSON
    from llmengine.mock.generation import Said


def usage_of(prompt_tokens: int, said: Iterable[Said]) -> JSON:
    """Tokens of the prompt once, and of all the answers."""
    answers = list(said)
    completion = sum(s.completion_tokens for s in answers)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(len(s.reasoning) for s in answers),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
