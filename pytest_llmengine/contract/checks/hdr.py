"""Checks of hdr: what headers tell and what they must not tell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmengine.types.hosts import internal_hosts
from pytest_llmengine.contract.assertions import choice
from pytest_llmengine.contract.outcomes import expect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, QUIRK, check

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


@rule(
    "hdr.no_internal_address",
    level=QUIRK,
    tier=EXTENDED,
    source="CWE-497: information about internal systems",
    since="2026-11-27",
    breaks="Every client learns the addresses of the servers behind a gateway.",
)
def no_internal_address(target: Target) -> None:
    """No header names an address of a private network, or a host of a cluster."""
    good, error = target.chat(max_tokens=1), target.chat(messages=...)
    choice(good.success())
    own = urlsplit(target.base_url).hostname or ""
    for reply in (good, error):
        for name, value in reply.headers.items():
            told = [host for host in internal_hosts(value) if host != own]
            expect(not told, f"the header {name} holds {quote(told)}: {quote(value)}")
