"""Bad input means something only where the same request without it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.reading.chat import said
from pytest_llmengine.contract.reading.rejection import rejected

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target


def control(target: Target, **params: Any) -> None:
    """Expect a good request to be answered, so that a refusal that follows says something."""
    said(target.chat(max_tokens=1, **params).success())


def expect_rejected(target: Target, name: str, *values: Any) -> None:
    """Expect a 400 for each value of a parameter, and an answer without the parameter."""
    control(target)
    for value in values:
        rejected(target.chat(**{"max_tokens": 1, name: value}), f"{name}={value!r}")
