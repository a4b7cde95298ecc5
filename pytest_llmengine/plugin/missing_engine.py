"""What happens to the tests of an engine that is missing: the option ``--engine-missing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.plugin.options import MISSING, chosen

if TYPE_CHECKING:
    from pytest_llmengine.targets import TargetError


def skips_missing(config: pytest.Config, error: TargetError) -> bool:
    """Whether the tests of an engine are skipped because it is missing and the run says so."""
    from pytest_llmengine.targets import EngineMissing  # noqa: PLC0415 - imported when used

    return isinstance(error, EngineMissing) and chosen(config, MISSING) == "skip"


def cannot_open(config: pytest.Config, error: TargetError) -> BaseException:
    """The end of a test whose engine cannot be opened: a failure or a skip of one line."""
    if skips_missing(config, error):
        return pytest.skip.Exception(str(error))
    return pytest.fail.Exception(str(error), pytrace=False)
