"""Checks of err.fuzz: bad requests do not break the server or reveal its internals."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_llmengine.contract.assertions import control
from pytest_llmengine.contract.outcomes import expect, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check

if TYPE_CHECKING:
    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.target import Target

rule = partial(check, group="err.fuzz")

CHAT = "/chat/completions"
MAX_ERROR_BYTES = 16_384
TRACES = ("Traceback (most recent call last)", "site-packages", '", line ', "\tat ", "goroutine 1")

BAD_PARAMETERS: tuple[dict[str, Any], ...] = (
    {"messages": [1]},
    {"messages": [{}]},
    {"messages": {"role": "user", "content": "hello"}},
    {"messages": [{"role": None, "content": "hello"}]},
    {"messages": [{"role": "user", "content": 3}]},
    {"messages": [{"role": "user", "content": [{}]}]},
    {"messages": [{"role": "user", "content": [{"type": "nope"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]},
    {"messages": [{"role": "assistant", "tool_calls": "call"}]},
    {"messages": [{"role": "tool", "content": "no id"}]},
    {"model": 3},
    {"max_tokens": 1.5},
    {"max_tokens": 10**30},
    {"n": "two"},
    {"seed": "seven"},
    {"stop": {}},
    {"stream": "yes"},
    {"logit_bias": [1]},
    {"logprobs": "all"},
    {"top_logprobs": -1},
    {"tools": "all"},
    {"tools": [{}]},
    {"tool_choice": 7},
    {"response_format": "json"},
)
BAD_BODIES = (
    b"",
    b"\x00\x01\x02",
    b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
    b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"messages": [{"role": "user", "content": "hello"}], "temperature": NaN}',
    b"[" * 5000 + b"]" * 5000,
)


@rule(
    "err.no_5xx_on_client_error",
    level=QUIRK,
    tier=EXTENDED,
    source="RFC 9110, 15.6: 5xx is the server's own fault; clients retry it",
)
def no_5xx_on_client_error(target: Target) -> None:
    """Thirty bad requests, and none is answered with a 5xx."""
    control(target)
    broken = [
        f"{what}: {reply.status}" for what, reply in _bad_requests(target) if reply.status >= 500
    ]
    expect(not broken, f"{len(broken)} bad requests answered 5xx: {'; '.join(broken)}")
    control(target)


@rule(
    "err.no_internal_leak",
    level=QUIRK,
    tier=EXTENDED,
    source="CWE-209: error messages that hold internals",
)
def no_internal_leak(target: Target) -> None:
    """No error shows a stack trace, or is larger than 16 KiB."""
    control(target)
    many = {"messages": [{"role": "user", "content": [{"type": "nope"}] * 20}] * 50}
    errors = [*_bad_requests(target), ("1000 bad parts", target.chat(**many))]
    for what, reply in errors:
        if reply.ok:
            continue
        found = [trace for trace in TRACES if trace in reply.text]
        expect(not found, f"{what}: the error shows {found}: {quote(reply.text)}")
        expect(len(reply.body) <= MAX_ERROR_BYTES, f"{what}: an error of {len(reply.body)} bytes")


def _bad_requests(target: Target) -> list[tuple[str, Reply]]:
    parameters = [
        (quote(json.dumps(bad)), target.chat(**{"max_tokens": 1} | bad)) for bad in BAD_PARAMETERS
    ]
    bodies = [
        (quote(raw[:60].decode("utf-8", "backslashreplace")), target.post(CHAT, raw=raw))
        for raw in BAD_BODIES
    ]
    return parameters + bodies
