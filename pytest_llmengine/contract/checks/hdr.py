"""Checks of hdr: headers that help with finding the cause of a problem."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.contract.assertions import choice
from pytest_llmengine.contract.outcomes import expect
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="hdr")


@rule(
    "hdr.x_request_id",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: api-reference/debugging-requests",
)
def x_request_id(target: Target) -> None:
    """Each answer has an x-request-id of its own, an error too.

    A failed request cannot be found in the server's logs.
    """
    good, again, error = (
        target.chat(max_tokens=1),
        target.chat(max_tokens=1),
        target.chat(messages=...),
    )
    choice(good.success())
    ids = [reply.headers.get("x-request-id", "") for reply in (good, again, error)]
    expect(ids[0] and ids[1], "the header x-request-id is missing on an answer")
    expect(ids[2], "the header x-request-id is missing on an error")
    expect(len(set(ids)) == len(ids), f"an x-request-id came twice: {', '.join(ids)}")
