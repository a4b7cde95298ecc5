"""A prompt in tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ids of a prompt's tokens; ``max_model_len`` is how many the model's context holds."""

    token_ids: tuple[int, ...]
    max_model_len: int | None = None

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return len(self.token_ids)
