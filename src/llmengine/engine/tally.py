"""What one prompt has cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmengine.values.outputs import Usage


@dataclass(slots=True)
class Tally:
    """Requests that were sent so far, and the usage that came back for them."""

    attempts: int = 0
    spent: list[Usage] = field(default_factory=list)

    @property
    def usage(self) -> Usage | None:
        """The sum of what is known; None when nothing is."""
        return sum(self.spent[1:], self.spent[0]) if self.spent else None
