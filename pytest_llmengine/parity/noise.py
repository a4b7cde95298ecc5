"""How far a baseline is from itself, when it is asked again in other company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_llmengine.parity.pair import Pair
from pytest_llmengine.parity.pairing import pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_llmengine.parity.answer import Answer
    from pytest_llmengine.parity.prompt import Prompt

    Ask = Callable[[str, Sequence[Prompt], int], Sequence[Answer]]

_ALL = 64  # as many at once as an engine takes by default


@dataclass(frozen=True, slots=True)
class Variation:
    """The baseline against itself, asked ``batch`` prompts at a time."""

    name: str
    batch: int
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """The variation as a JSON object."""
        return {
            "name": self.name,
            "batch": self.batch,
            "pairs": [pair.to_dict() for pair in self.pairs],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The variation that `to_dict` wrote."""
        return cls(row["name"], row["batch"], tuple(Pair.from_dict(p) for p in row["pairs"]))

    def only(self, ids: frozenset[str]) -> Variation:
        """The same for some of the prompts."""
        kept = tuple(pair for pair in self.pairs if pair.id in ids)
        return Variation(self.name, self.batch, kept)


def noise_floor(
    prompts: Sequence[Prompt], answers: Sequence[Answer], batch: int, ask: Ask
) -> tuple[Variation, ...]:
    """What the baseline's own answers differ by from those it gave first.

    It is asked the same way again, one prompt at a time, and as many at once as it takes in the
    opposite order, so that every prompt is computed in other company. ``ask`` is told the name of
    the variation, the prompts and the batch.
    """
    turned = prompts[::-1]
    return (
        Variation("again", batch, pairs_of(prompts, answers, ask("again", prompts, batch))),
        Variation("one by one", 1, pairs_of(prompts, answers, ask("one by one", prompts, 1))),
        Variation(
            "all at once, reversed",
            _ALL,
            pairs_of(prompts, answers, ask("all at once, reversed", turned, _ALL)[::-1]),
        ),
    )
