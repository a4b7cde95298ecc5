"""The contract as tests: ``pytest --pyargs pytest_llmengine.contract --engine=NAME``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.contract.outcomes import Outcome
from pytest_llmengine.contract.registry import Check, select

if TYPE_CHECKING:
    from pytest_llmengine._judge import Judge
    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.contract.target import Exchange

_MAX_SHOWN = 2000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a check and engine, such as ``embedded-chat.basic.required_fields``."""
    from pytest_llmengine._run import settings
    chosen = settings(metafunc.config)
    rows = [
        pytest.param(check, name, id=f"{name}-{check.id}")
        for name in chosen.engines
        for check in select(tier=chosen.tier)
    ]
    metafunc.parametrize(("check", "llmengine_name"), rows)


def test_contract(check: Check, llmengine_name: str, llmengine_judge: Judge) -> None:
    """The engine keeps the rule, or breaks it in a way that its profile knows."""
    __tracebackhide__ = True
    conclude(llmengine_judge(check, llmengine_name))


def conclude(result: CheckResult) -> None:
    """End the test as the verdict says; a pass just returns."""
    __tracebackhide__ = True
    if result.outcome is Outcome.ERROR:
        _fail(f"the harness broke, so this is no verdict: {result.reason}", result)
    if result.failed:
        _fail(f"{result.outcome}: {result.reason}", result)
    if result.outcome is Outcome.DEVIATES:
        pytest.xfail(result.reason)
    if result.outcome is not Outcome.PASS:
        pytest.skip(f"{result.outcome}: {result.reason}")


def _fail(...)
