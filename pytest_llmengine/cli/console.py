"""The consoles of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough that a row stays one line, so that grep, cut and awk work on what is piped.
_PIPED_WIDTH = 400


def stdout() -> Console:
    """For results."""
    from pytest_llmengine.reports.console import SafeConsole

    return SafeConsole(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """For progress and errors, so that results can be piped."""
    from pytest_llmengine.reports.console import SafeConsole

    return SafeConsole(stderr=True, highlight=False, markup=False, emoji=False)


def listing() -> Console:
    """For tables of any width: wrapped on a terminal, one line a row in a pipe."""
    console = stdout()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
