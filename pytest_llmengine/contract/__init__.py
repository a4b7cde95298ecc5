"""The contract: rules for LLM servers, each written as a function that checks a target.

This package has the names that a user's own rules need; ``docs/contract.md`` shows how to write
them. A name is loaded when it is first used, so that the command and the plugin start quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_llmengine.contract.driver import Driver as Driver
    from pytest_llmengine.contract.driver import Package as Package
    from pytest_llmengine.contract.outcomes import Refused as Refused
    from pytest_llmengine.contract.outcomes import Unmeasured as Unmeasured
    from pytest_llmengine.contract.outcomes import expect as expect
    from pytest_llmengine.contract.outcomes import expect_effect as expect_effect
    from pytest_llmengine.contract.outcomes import fail as fail
    from pytest_llmengine.contract.registry import RuleError as RuleError
    from pytest_llmengine.contract.registry import check as check
    from pytest_llmengine.contract.reply import Reply as Reply
    from pytest_llmengine.contract.target import HTTPExchange as HTTPExchange
    from pytest_llmengine.contract.target import Target as Target

_MODULES = {
    "Driver": "driver",
    "HTTPExchange": "target",
    "Package": "driver",
    "Refused": "outcomes",
    "Reply": "reply",
    "RuleError": "registry",
    "Target": "target",
    "Unmeasured": "outcomes",
    "check": "registry",
    "expect": "outcomes",
    "expect_effect": "outcomes",
    "fail": "outcomes",
}
__all__ = [*_MODULES]  # noqa: PLE0604 - one table, no second list


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
