"""One side of a comparison: who answered, what it was asked, and what it said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from pytest_llmengine.parity.prompt import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.facts import Facts
    from pytest_llmengine.parity.noise import Variation
    from pytest_llmengine.parity.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Everything that a comparison needs of one side, measured now or read from a file.

    ``answers`` has one answer a prompt, in the prompts' order. ``noise`` is how far the side is
    from itself; empty where that was not measured. ``date`` is the day in ISO 8601 (UTC),
    ``source`` the file that it was read from.
    """

    name: str
    facts: Facts
    prompts: tuple[Prompt, ...]
    answers: tuple[Answer, ...]
    noise: tuple[Variation, ...] = ()
    batch: int
    date: str
    tool_version: str
    source: str | None = None

    @property
    def digest(self) -> str:
        """A hash of the prompt set."""
        return digest_of(self.prompts)

    def only(self, ids: Iterable[str]) -> Self:
        """The same for some of the prompts, in the order of `ids`; those it was not asked fall out.

        The noise floor keeps the side's own order.
        """
        both = zip(self.prompts, self.answers, strict=True)
        asked = {prompt.id: (prompt, answer) for prompt, answer in both}
        kept = [asked[name] for name in ids if name in asked]
        wanted = frozenset(prompt.id for prompt, _ in kept)
        return replace(
            self,
            prompts=tuple(prompt for prompt, _ in kept),
            answers=tuple(answer for _, answer in kept),
            noise=tuple(variation.only(wanted) for variation in self.noise),
        )

    def describe(self) -> str:
        """Who it is and where its answers come from, in one line."""
        origin = f"saved {self.date} in {self.source}" if self.source else f"live {self.date}"
        return f"{self.name}: {self.facts.describe()}, {origin}"
