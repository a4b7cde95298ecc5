"""Checks of auth: a server that has a key requires it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.secrets import is_secret_name
from pytest_llmengine.contract.assertions import control, full_text
from pytest_llmengine.contract.outcomes import Unmeasured, expect, expect_effect, quote
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="auth")

NO_KEY = {"Authorization": ""}
BAD_KEY = {"Authorization": "Bearer not-a-key-of-this-server"}


@rule(
    "auth.missing",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: api-reference/authentication; OpenAI docs: guides/error-codes",
)
def missing(target: Target) -> None:
    """A request without a key is answered with 401.

    Anyone who reaches the port can use the model, and a client whose key is not sent by mistake
    never learns it.
    """
    _need_key(target)
    _expect_401(_chat(target, NO_KEY), "a request without a key")


@rule("auth.bad", level=EXPECTED, tier=EXTENDED, source="OpenAI docs: guides/error-codes")
def bad(target: Target) -> None:
    """A request with a wrong key is answered with 401.

    A wrong or revoked key goes unnoticed, and the server's access control does not exist.
    """
    _need_key(target)
    _expect_401(_chat(target, BAD_KEY), "a request with a wrong key")


@rule(
    "auth.scheme_case",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110 11.1: the authentication scheme is case-insensitive",
)
def scheme_case(target: Target) -> None:
    """The scheme may be written "bearer".

    A client or proxy that writes the scheme in lower case is locked out with a key that is
    right.
    """
    _need_key(target)
    if _chat(target, NO_KEY).ok:
        raise Unmeasured("the server answers without a key, so it may not have read this one")
    reply = _chat(target, {"Authorization": f"bearer {target.api_key}"})
    expect(reply.ok, f'the scheme "bearer": {reply.status}: {quote(reply.text)}')
    full_text(reply.success())


@rule(
    "auth.models_protected",
    level=EXPECTED,
    tier=EXTENDED,
    source="OpenAI docs: api-reference/authentication",
)
def models_protected(target: Target) -> None:
    """The list of models needs a key too.

    A health check by the list of models says that the key is good, and the first real request
    fails.
    """
    _need_key(target)
    target.get("/models").success()
    _expect_401(target.get("/models", headers=NO_KEY), "GET /models without a key")


def _need_key(target: Target) -> None:
    if not target.api_key:
        raise Unmeasured("this target has no api_key, so its server may need none")
    if keys := [name for name in target.headers if is_secret_name(name, "header")]:
        raise Unmeasured(f"the configured header {keys[0]} is sent too, and may be a key")
    control(target)


def _chat(target: Target, headers: dict[str, str]) -> Reply:
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": target.model, "messages": messages, "max_tokens": 1, "temperature": 0}
    return target.post("/chat/completions", body, headers=headers)


def _expect_401(reply: Reply, what: str) -> None:
    expect_effect(not reply.ok, f"{what} was answered with 200")
    expect(reply.status == 401, f"{what}: {reply.status} instead of 401: {quote(reply.text)}")
    expect(reply.error_message, f"{what}: a 401 without a message: {quote(reply.text)}")
