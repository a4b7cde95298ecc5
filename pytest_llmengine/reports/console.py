"""A console for texts of models and servers, which could otherwise act on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.segment import Segment

from llmengine.types.printable import printable
from llmengine.types.secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class SafeConsole(Console):
    """Prints texts with control characters shown, and known keys taken out.

    It is done where text becomes segments, because below that the console's own colours and cursor
    movements stand between them.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of what is printed; those that control the cursor are the console's own."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else printable(scrub(segment.text))
            yield segment if text == segment.text else Segment(text, segment.style)
