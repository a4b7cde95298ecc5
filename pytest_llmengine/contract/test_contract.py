"""The contract as tests: ``pytest --pyargs pytest_llmengine.contract --engine=NAME``.

The plugin parametrizes the test with checks and engines; an id looks like
``embedded-chat.basic.required_fields``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_llmengine.contract.outcomes import Outcome, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.runner import CheckResult

_MAX_SHOWN = 2000


def test_contract(llmengine_check: Check, llmengine_judge: Callable[[Check], CheckResult]) -> None:
    """The engine keeps the rule, or breaks it in a way that its profile knows."""
    _conclude(llmengine_judge(llmengine_check))


def _conclude(result: CheckResult) -> None:
    """End the test according to the verdict; after a pass this returns.

    The test of a check that was not run is skipped, and the plugin makes the run fail.
    """
    if result.failed and result.outcome is not Outcome.NOT_RUN:
        _fail(result)
    if result.outcome is Outcome.DEVIATES:
        pytest.xfail(result.reason)
    if result.outcome is not Outcome.PASS:
        pytest.skip(f"{result.outcome}: {result.reason}")


def _fail(result: CheckResult) -> NoReturn:
    """Fail with the reason and the HTTP exchanges, without a traceback of our own frames."""
    lines = [f"{result.outcome}: {result.reason}", f"The rule: {result.check.title}"]
    if result.outcome is Outcome.ERROR:
        lines.append("This is not a verdict on the engine.")
    if result.exchanges:
        last = result.exchanges[-1]
        lines += [
            f"> {last.method} {last.path}",
            shortened(last.request_body, _MAX_SHOWN),
            f"< {'no answer' if last.status is None else last.status}",
            shortened(last.response_body, _MAX_SHOWN),
        ]
    pytest.fail("\n".join(line for line in lines if line), pytrace=False)
