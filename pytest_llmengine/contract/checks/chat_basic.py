"""chat.basic: the body of a plain, whole answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.contract.outcomes import expect
from pytest_llmengine.contract.registry import REQUIRED, SMOKE, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

SPEC = "openai-openapi: CreateChatCompletionResponse"


@check("chat.basic.required_fields", level=REQUIRED, tier=SMOKE, source=f"{SPEC}.required")
def required_fields(target: Target) -> None:
    """A chat completion has id, object, created, model and choices."""
    body = target.chat().success()
    missing = [k for k in ("id", "object", "created", "model", "choices") if k not in body]
    expect(not missing, f"missing: {', '.join(missing)}")
