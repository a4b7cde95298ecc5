"""A console for texts of models and servers, which must not control the terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment

from llmengine.types.printable import printable
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


# Columns in a pipe: enough that no line of a report is wrapped, for grep, cut and awk.
_UNWRAPPED = 100_000


def report_width(width: int, *, is_terminal: bool) -> int:
    """The width for a report; lines in a pipe or a file are not wrapped unless COLUMNS is set."""
    return width if is_terminal or "COLUMNS" in os.environ else _UNWRAPPED


class SafeConsole(Console):
    """A console that prints control characters visibly and removes known keys.

    Both happen when text becomes segments. After that step, the console's own colours and cursor
    movements are mixed with the text.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments to print; control segments are the console's own and stay unchanged."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(scrub(segment.text))
            yield segment if text == segment.text else Segment(text, segment.style)
