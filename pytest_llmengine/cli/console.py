"""Consoles that print what they are given: no markup, no guessed highlights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough that a row stays one line, so that grep, cut and awk work on what is piped.
_PIPED_WIDTH = 400


def stdout() -> Console:
    """For results."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """For progress and errors, so that results can be piped."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def listing() -> Console:
    """For tables of any width: wrapped on a terminal, one line a row in a pipe."""
    console = stdout()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
