"""The rule behind many rows: bad input is turned down, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import expect, expect_effect
from pytest_llmengine.contract.quote import quote

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply


def rejected(reply: Reply, what: str) -> None:
    """Expect a 400 with a message; a 200 ends the check as ignored."""
    expect_effect(reply.status != 200, f"{what} was accepted with 200: {quote(reply.text)}")
    expect(reply.status == 400, f"{what}: {reply.status} instead of 400: {quote(reply.text)}")
    expect(reply.error_message, f"{what}: a 400 without a message: {quote(reply.text)}")
