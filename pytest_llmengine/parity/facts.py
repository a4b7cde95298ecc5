"""What is known of a side beyond its answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from pytest_llmengine.parity.errors import ParityError
from pytest_llmengine.reports.render import clipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST = 40  # of a name in a line; a hash is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a side says of itself; None is not known, and is never taken for a value.

    ``weights`` names what was loaded, without the folder it lies in. ``overrides`` are sampling
    values that the engine's own configuration sends in place of the pinned ones, ``unsent`` those
    that its protocol has no field for. ``options`` are the flags of an engine that we start
    ourselves. ``stated`` are the names of facts that a person gave.
    """

    engine: str | None = None
    version: str | None = None
    model: str | None = None
    weights: str | None = None
    dtype: str | None = None
    prefix_caching: str | None = None
    batch_invariance: str | None = None
    context: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    unsent: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    stated: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The facts that are known, as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The facts that `to_dict` wrote."""
        lists = {name: tuple(row.get(name, ())) for name in ("unsent", "stated")}
        return cls(**{**row, **lists})

    def with_stated(self, given: Iterable[str]) -> Facts:
        """These, with what a person says: ``name=value`` each, over what was seen.

        Raises ParityError for anything else.
        """
        stated: dict[str, Any] = dict(_stated(text) for text in given)
        return replace(self, **stated, stated=(*self.stated, *stated))

    def describe(self) -> str:
        """Engine, version and model in a few words."""
        words = " ".join(
            word for word in (self.engine or "an unnamed engine", self.version) if word
        )
        return f"{words} ({clipped(self.weights or self.model or 'unknown model', _LONGEST)})"


STATEABLE = ("version", "weights", "dtype", "prefix_caching", "batch_invariance")
"""Facts that a person may give, because a server does not tell them."""


def _stated(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if name not in STATEABLE or not separator or not value:
        raise ParityError(f"fact {text!r}: write name=value; names are {', '.join(STATEABLE)}")
    return name, value
