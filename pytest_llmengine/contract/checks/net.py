"""Checks of net: HTTP features that clients may use."""

from __future__ import annotations

import gzip
import json
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import chunks_of, control, full_text
from pytest_llmengine.contract.outcomes import Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="net")

CHAT = "/chat/completions"
JSON_BODY = {"Content-Type": "application/json"}
LARGE = 1_300_000


@rule(
    "net.keepalive.reuse",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9112 9.3: connections persist",
    needs={Capability.STREAMING},
)
def keepalive_reuse(target: Target) -> None:
    """A connection is used again, also after a stream.

    Each request pays for a new connection, and a client with a pool gets errors when it uses one
    that the server has closed.
    """
    with target.kept_alive():
        first = target.chat(max_tokens=1)
        full_text(first.success())
        stream = target.chat(max_tokens=4, stream=True)
        chunks_of(stream)
        last = target.chat(max_tokens=1)
        full_text(last.success())
    # This comes last, so that recordings hold the exchanges and the answers are always checked.
    target.need_direct()
    expect(first.port == stream.port, "the connection was closed after a whole answer")
    expect(stream.port == last.port, "the connection was closed after a stream")


@rule(
    "net.gzip_request",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110 8.4: read it, or answer 415",
)
def gzip_request(target: Target) -> None:
    """A body in gzip is read, or turned down with a 4xx.

    A client or proxy that compresses requests gets a 500 and tries again in vain.
    """
    target.need_direct()
    control(target)
    headers = {**JSON_BODY, "Content-Encoding": "gzip"}
    reply = target.post(CHAT, raw=gzip.compress(_good(target), mtime=0), headers=headers)
    if reply.ok:
        full_text(reply.success())
    else:
        clear = reply.status == 415 or (400 <= reply.status < 500 and reply.error_message)
        expect(clear, f"a body in gzip: {reply.status}: {quote(reply.text)}")


@rule(
    "net.chunked_request",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9112 7.1: a recipient must be able to decode chunked",
)
def chunked_request(target: Target) -> None:
    """A body sent in chunks, without a Content-Length, is read.

    Clients that stream their request, and some proxies, cannot use the server.
    """
    target.need_direct()
    reply = target.send("POST", CHAT, content=_good(target), headers=JSON_BODY, chunked=True)
    full_text(reply.success())


@rule("net.expect", level=QUIRK, tier=EXTENDED, source="RFC 9110 10.1.1: Expect: 100-continue")
def expect_continue(target: Target) -> None:
    """A request with "Expect: 100-continue" is answered.

    curl and .NET send this header with long prompts, and wait or fail.
    """
    target.need_direct()
    headers = {**JSON_BODY, "Expect": "100-continue"}
    full_text(target.post(CHAT, raw=_good(target), headers=headers).success())


@rule(
    "long.large_body",
    level=QUIRK,
    tier=EXTENDED,
    heavy=True,
    source="RFC 9110 15.5.14: 413 for content that is too large",
)
def large_body(target: Target) -> None:
    """A body of 1.3 MB is turned down in words, never with a broken connection.

    A client takes a broken connection for a fault of the network, and sends the same body again.
    """
    target.need_direct()
    control(target)
    reply = target.chat("a" * LARGE, max_tokens=1)
    if reply.ok:
        raise Unmeasured(f"the server takes a prompt of {LARGE} bytes")
    expect(400 <= reply.status < 500, f"{LARGE} bytes: {reply.status}: {quote(reply.text)}")
    expect(reply.error_message, f"{LARGE} bytes: {reply.status} without a message")


def _good(target: Target) -> bytes:
    messages = [{"role": "user", "content": "Say hello."}]
    body = {"model": target.model, "messages": messages, "max_tokens": 1, "temperature": 0}
    return json.dumps(body).encode()
