"""The comparison as tests: ``pytest --pyargs pytest_llmengine.parity --parity-baseline FILE``.

The plugin gives each test one kind of prompts. Each test measures what it needs, so that
pytest-xdist can distribute the tests.
"""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.parity.render import print_report
from pytest_llmengine.parity.verdict import ParityVerdict
from pytest_llmengine.reports.console import SafeConsole

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.parity import ParityReport

pytestmark = pytest.mark.parity

_WIDTH = 100
_NO_BASELINE = (
    "there is nothing to compare with: give --parity-baseline an engine's name, or a file that "
    "`llmengine parity --save` wrote"
)


def test_parity(
    llmengine_kind: str | None, llmengine_parity: Callable[[str], ParityReport]
) -> None:
    """The candidate's answers to one kind of prompts have the distribution of the baseline's.

    The report is printed, so that ``pytest -rP`` shows it for a test that passes.
    """
    if llmengine_kind is None:
        pytest.skip(_NO_BASELINE)
    report = llmengine_parity(llmengine_kind)
    if report.verdict is not ParityVerdict.EQUAL:
        pytest.fail(_printed(report), pytrace=False)
    print(_printed(report))  # noqa: T201


def _printed(report: ParityReport) -> str:
    text = StringIO()
    print_report(report, SafeConsole(file=text, width=_WIDTH))
    return text.getvalue()
