"""The texts of pytest's reports without keys, and without what a terminal would obey."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from _pytest._code.code import TerminalRepr

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def scrub_report(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Replace every known key in what the report shows of frames, and in captured output."""
    # Without this module nothing was registered, and the plugin does not import the library.
    if secrets := sys.modules.get("llmengine.types.secrets"):
        _change(report, secrets.scrub)


def make_printable(report: pytest.TestReport) -> None:
    """Show the control characters in a report, for they may be a model's or a server's."""
    from llmengine.types.printable import printable  # noqa: PLC0415 - unused runs stay light

    _change(report, printable)


def _change(report: Any, change: Callable[[str], str]) -> None:
    for name in ("longrepr", "sections", "user_properties"):
        if value := getattr(report, name, None):
            setattr(report, name, _changed(value, change))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """The value with its texts changed: those of pytest's own trees of a failure in place."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_changed(item, change) for item in value)
    if isinstance(value, TerminalRepr):
        for name, held in vars(value).items():
            setattr(value, name, _changed(held, change))
    return value
