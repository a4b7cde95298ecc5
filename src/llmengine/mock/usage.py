"""The token counts of answers, which every API sends in a form of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmengine.mock.model import GeneratedAnswer
    from llmengine.types.wire import CompletionUsage


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The tokens of one prompt, or of several, and of all answers to it.

    The names are those of ``usage`` in a scripted reply, whose counts replace the real ones.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int = 0

    @classmethod
    def of(
        cls, prompt_tokens: int, answers: Iterable[GeneratedAnswer], cached_tokens: int = 0
    ) -> TokenCounts:
        """The counts for a prompt, which is counted once, and for all answers to it."""
        answers = list(answers)
        completion = sum(answer.completion_tokens for answer in answers)
        reasoning = sum(len(answer.reasoning) for answer in answers)
        counted = cls(prompt_tokens, completion, reasoning, cached_tokens)
        return replace(counted, **answers[0].usage) if answers else counted

    @property
    def total_tokens(self) -> int:
        """The tokens of the prompt and of the answers."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def as_usage(self) -> CompletionUsage:
        """The usage in the shape of chat completions."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
