"""What one side said to one prompt, as a plain value that a file can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token with its natural-log probability and the most likely alternatives.

    ``top`` has the token itself and need not be sorted: vLLM puts the chosen one first.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()

    def rank_of(self, text: str) -> int | None:
        """The place of a token among the alternatives here, 1 the likeliest; None if outside."""
        chance = next((value for other, value in self.top if other == text), None)
        return None if chance is None else 1 + sum(value > chance for _, value in self.top)

    @property
    def best(self) -> float:
        """The log-probability of the likeliest token here."""
        return max((value for _, value in self.top), default=self.logprob)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; ``error`` says why there is none.

    ``tokens`` is None where no log-probabilities came, and ``token_ids`` and
    ``prompt_token_ids`` where no ids did. ``tool_calls`` are (name, arguments as JSON text); None
    where no tools were offered, or the engine leaves calls in the text.
    ``valid`` says whether the text fits the prompt's schema, None where it has none; ``parsed`` is
    the text as a JSON value, where it is one and a schema was given.
    """

    id: str
    text: str = ""
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    tokens: tuple[Token, ...] | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning: str | None = None
    tool_calls: tuple[tuple[str, str], ...] | None = None
    valid: bool | None = None
    parsed: Any = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    def to_dict(self) -> dict[str, Any]:
        """The answer as a JSON object; what is not known is left out."""
        row = {name: getattr(self, name) for name in self.__slots__}
        if self.tokens is not None:
            row["tokens"] = [[t.text, t.logprob, t.top] for t in self.tokens]
        return {name: value for name, value in row.items() if value is not None}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The answer that `to_dict` wrote."""
        known = dict(row)
        for name in ("token_ids", "prompt_token_ids"):
            if name in known:
                known[name] = tuple(known[name])
        if "tokens" in known:
            known["tokens"] = tuple(_token(*entry) for entry in known["tokens"])
        if "tool_calls" in known:
            known["tool_calls"] = tuple((name, text) for name, text in known["tool_calls"])
        return cls(**known)


def _token(text: str, logprob: float, top: list[list[Any]]) -> Token:
    return Token(text, logprob, tuple((other, value) for other, value in top))
