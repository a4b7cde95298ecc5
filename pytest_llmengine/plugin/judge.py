"""Run checks of the contract inside a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.plugin.missing_engine import cannot_open
from pytest_llmengine.plugin.reporting import keep
from pytest_llmengine.targets import TargetError, judge

if TYPE_CHECKING:
    import pytest

    from pytest_llmengine.contract.profile import Profile
    from pytest_llmengine.contract.registry import Check
    from pytest_llmengine.contract.runner import CheckResult
    from pytest_llmengine.plugin.pool import Pool
    from pytest_llmengine.targets import Settings


class Judge:
    """Runs checks on one engine and keeps the verdicts for the report."""

    def __init__(
        self,
        item: pytest.Item,
        pool: Pool,
        settings: Settings,
        name: str,
        profile: Profile | None,
    ) -> None:
        self._item = item
        self._profile = profile
        self._pool = pool
        self._settings = settings
        self._name = name

    def __call__(self, check: Check) -> CheckResult:
        """The verdict; the test ends with one line if the engine cannot be opened."""
        try:
            session = self._pool.open(self._name)
        except TargetError as error:
            raise cannot_open(self._item.config, error) from None
        result = judge(check, session, self._profile)
        keep(self._item, result, session, self._settings)
        return result
