"""The comparisons of a run with ``--engine-mode=verify``, in pytest's summary.

With pytest-xdist, they travel from the workers to the controller on the reports of tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_llmengine.recording.comparison import Comparison

# An attribute of test reports; it holds plain values, so pytest-xdist sends it to the controller.
_COMPARISONS = "llmengine_comparisons"


def attach_comparisons(report: pytest.TestReport, comparisons: Sequence[Comparison]) -> None:
    """Add the comparisons of a test's cassettes to its report."""
    if comparisons:
        setattr(report, _COMPARISONS, [one.to_dict() for one in comparisons])


class Comparisons:
    """The plugin that prints how live answers differ from recorded ones.

    It works in the process that prints the summary.
    """

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the comparisons of a test."""
        self._found += getattr(report, _COMPARISONS, ())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the exchanges that changed, and how many there are of each tier."""
        if not self._found:
            return
        from llmengine.types.printable import printable  # noqa: PLC0415 - imported when used
        from llmengine.types.secrets import scrub  # noqa: PLC0415 - the same
        from pytest_llmengine.recording.comparison import (  # noqa: PLC0415 - the same
            Comparison,
            summary_of,
        )

        comparisons = [Comparison.from_dict(row) for row in self._found]
        terminalreporter.section("LLM engine recordings verified")
        for one in comparisons:
            if not one.is_unchanged:
                terminalreporter.write_line(printable(scrub(f"{one.path}: {one.describe()}")))
        terminalreporter.write_line(summary_of(comparisons))
