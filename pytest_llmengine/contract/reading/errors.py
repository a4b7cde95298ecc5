"""Errors that every server gives, whatever it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.outcomes import expect, expect_effect
from pytest_llmengine.contract.quote import quote
from pytest_llmengine.contract.reading.control import control
from pytest_llmengine.contract.reading.fields import pick

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

NO_MESSAGES = "a request without messages"
NO_JSON = "a body that is not JSON"
NO_PATH = "a path that does not exist"


def provoke(target: Target) -> dict[str, Reply]:
    """Three errors by what provoked them, after a good request was answered.

    One that is answered with a 200 ends the check as ignored; anything but a 4xx fails it.
    """
    control(target)
    replies = {
        NO_MESSAGES: target.chat(messages=...),
        NO_JSON: target.post("/chat/completions", raw=b'{"model": '),
        NO_PATH: target.get("/no/such/path"),
    }
    for what, reply in replies.items():
        expect_effect(reply.status != 200, f"{what} was answered with 200: {quote(reply.text)}")
        expect(400 <= reply.status < 500, f"{what}: {reply.status}: {quote(reply.text)}")
    return replies


def envelope(reply: Reply, what: str) -> dict[str, Any]:
    """The object under "error"; a body without one fails the check."""
    body = reply.object()
    expect("error" in body, f"{what}: no error object: {quote(body)}")
    return pick(body, dict, "error")
