"""Checks of net and rate: too many or too large requests, and streams that wait or fail."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import (
    chunks_of,
    control,
    effect,
    envelope,
    finish_reasons,
    pick,
)
from pytest_llmengine.contract.jobs import at_once
from pytest_llmengine.contract.outcomes import (
    CheckEnded,
    Fail,
    NoVerdict,
    Unmeasured,
    expect,
    fail,
    quote,
)
from pytest_llmengine.contract.registry import EXPECTED, EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="net", level=QUIRK, tier=EXTENDED, since="2026-11-27")

CHAT = "/chat/completions"
AT_ONCE = 32
HUGE = "a" * 1_300_000
DEEP = b'{"messages": ' + b"[" * 100_000


@rule(
    "rate.429",
    group="rate",
    level=EXPECTED,
    source="OpenAI docs: guides/rate-limits; RFC 9110 10.2.3; RFC 6585 4",
    breaks="A client that may not send more does not know how long to wait, so it tries again at "
    "once or fails.",
    alone=True,
    heavy=True,
)
def rate_limit(target: Target) -> None:
    """A 429 says in Retry-After how long to wait, and has the error's envelope."""
    target.need_direct()
    control(target)
    body = target.chat_body("Say hello.", max_tokens=1)
    replies = at_once([partial(target.post, CHAT, body, patient=False)] * AT_ONCE)
    limited = [reply for reply in replies if reply.status == 429]
    target.keep_exchanges(limited, most=6)
    if not limited:
        raise Unmeasured(f"{AT_ONCE} requests at once did not reach a limit of the server")
    for reply in limited:
        error = envelope(reply, "a 429")
        expect(pick(error, str, "message"), "a 429 has an error without a message")
        wait = reply.headers.get("retry-after", "")
        expect(wait or "retry-after-ms" in reply.headers, "a 429 has no Retry-After")
        expect(not wait or _is_time(wait), f"the Retry-After of a 429 is {quote(wait)}")


def _is_time(value: str) -> bool:
    """Whether a Retry-After is a number of seconds or an HTTP date."""
    if re.fullmatch(r"\d+", value.strip()):
        return True
    try:
        parsedate_to_datetime(value)
    except ValueError:
        return False
    return True


@rule(
    "net.recovery",
    source="RFC 9112 9.3: a server reads the whole request, or closes the connection",
    breaks="One bad request of one user breaks the next requests of everybody.",
    heavy=True,
)
def recovery(target: Target) -> None:
    """After a huge or broken request, the next one over its connection is answered as before.

    The number of its prompt's tokens is the same as before.
    """
    target.need_direct()
    bad: dict[str, Callable[[], Reply]] = {
        "a prompt of 1.3 MB": lambda: target.chat(HUGE, max_tokens=1),
        "a body that ends too early": lambda: target.post(CHAT, raw=b'{"model": '),
        "a body that is nested deeply": lambda: target.post(CHAT, raw=DEEP),
        "a path that does not exist": lambda: target.post("/no/such/path", {"a": HUGE[:99_999]}),
    }
    with target.kept_alive():
        before = _prompt_tokens(target)
        for what, send in bad.items():
            _send_bad(send)
            try:
                after = _prompt_tokens(target)
            except Fail as error:
                fail(f"after {what}, a valid request is not answered: {quote(str(error))}")
            same = after == before
            expect(same, f"after {what}, a prompt of {before} tokens is read as {after} tokens")


def _prompt_tokens(target: Target) -> int | None:
    return effect(target.chat(max_tokens=1).success())[1]


def _send_bad(send: Callable[[], Reply]) -> None:
    """Send a request that may end in any way but in silence."""
    try:
        send()
    except NoVerdict:
        raise
    except CheckEnded:  # other rules judge the reply to it
        return


@rule(
    "net.keepalive_comments",
    source="WHATWG HTML 9.2.7; vllm-project/vllm#47647",
    needs={Capability.STREAMING},
    breaks="A client that reads every event as a chunk fails while it waits for the first one.",
)
def keepalive_comments(target: Target) -> None:
    """What keeps a stream alive while it waits is a comment, and not an event."""
    reply = target.chat("Say hello. " * 100, max_tokens=8, stream=True)
    chunks = chunks_of(reply)
    expect(finish_reasons(chunks), "a stream with comments has no end")
    if not re.search(rb"(?:^|[\r\n]):", reply.body):
        raise Unmeasured("the server sent no comment while the stream waited for its first token")


@rule(
    "net.error_event",
    source="vllm 0.32.0: vllm/entrypoints/openai/serving_engine.py",
    needs={Capability.STREAMING},
    breaks="A client takes half an answer for a whole one.",
)
def error_event(target: Target) -> None:
    """An error in mid-stream is an event with an error object and a message, and the last one."""
    reply = target.chat(max_tokens=8, stream=True)
    chunks = reply.objects()
    failed = [number for number, chunk in enumerate(chunks) if chunk.get("error")]
    if not failed:
        expect(finish_reasons(chunks), "a stream has neither a finish_reason nor an error")
        raise Unmeasured("no stream of this server failed, and no request makes one fail")
    error = chunks[failed[0]]
    expect(pick(error, str, "error", "message"), "the error in mid-stream has no message")
    expect(failed[0] == len(chunks) - 1, "the stream goes on after its error")
