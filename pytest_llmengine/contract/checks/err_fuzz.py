"""Checks of err.fuzz: bad requests do not break the server or reveal its internals."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from llmengine.mock.specification import operations
from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import control
from pytest_llmengine.contract.facts import together
from pytest_llmengine.contract.generated_requests import cheap, generated_bodies, smallest
from pytest_llmengine.contract.outcomes import Fail, NoVerdict, expect, fail, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check
from pytest_llmengine.contract.target import TargetUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_llmengine.contract.reply import Reply
    from pytest_llmengine.contract.samples import JSON
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
    b'{"max_tokens": 1, "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    b'{"max_tokens": 1, "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"max_tokens": 1, "messages": [{"role": "user", "content": "hello"}], "temperature": NaN}',
    b"[" * 5000 + b"]" * 5000,
)


@rule(
    "err.no_5xx_on_client_error",
    level=QUIRK,
    tier=EXTENDED,
    heavy=True,
    source="RFC 9110 15.6: 5xx is the server's own fault",
)
def no_5xx_on_client_error(target: Target) -> None:
    """Thirty bad requests, and none is answered with a 5xx.

    Clients retry a request that can never succeed.
    """
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
    """No error shows a stack trace, or is larger than 16 KiB.

    Paths and code of the server reach its clients.
    """
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


# ---- generated requests

SEED = 20261127
_COUNT = 40
_ENOUGH = 3  # finds of one rule; each is made small by more requests
_IDS = ("-1", "%00", "..%2F..%2Fetc", "%F0%9F%A6%8A", "null", "x" * 2_000)


@dataclass(frozen=True, slots=True)
class Crash:
    """What is wrong with the answer to a request, such as a 500, and the name of the cause."""

    what: str
    fact: str = field(compare=False)


NO_ANSWER, CLOSED, CUT = (
    Crash(what, what) for what in ("no answer", "a closed connection", "an answer that breaks off")
)


def _crash(send: Callable[[], Reply], curl: str, target: Target) -> Crash | None:
    """How the server has crashed on a request; None if it has coped."""
    try:
        reply = send()
    except TargetUnreachable:
        fail(f"nothing answers any more after this request: “{curl}”")
    except NoVerdict:
        control(target)  # a server that answers nothing at all gives no verdict
        return NO_ANSWER
    except Fail:
        return CLOSED
    if reply.cut:
        return CUT
    if reply.status not in _CRASHES:
        return None
    # The start of a message tells two crashes apart; the rest may repeat the request.
    what = f"a {reply.status} {quote(reply.error_message[:48])}"
    return Crash(what, reply.cause or what)


_CRASHES = set(range(500, 600)) - {501}  # 501 refuses in words what is not supported


def _curl(method: str, path: str, body: JSON | None = None) -> str:
    """The command that sends a request again."""
    line = f'curl -sS -X {method} "$URL{path}" -H "Authorization: Bearer $KEY"'
    if body is None:
        return line
    return f"{line} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"


def _bodies_do_no_harm(path: str, target: Target) -> None:
    control(target)

    def crash(body: JSON) -> Crash | None:
        sent = cheap(body, path, target.model)
        return _crash(lambda: target.post(path, sent), _curl("POST", path, sent), target)

    found: dict[Crash, str] = {}
    for body in generated_bodies(path, target.model, seed=SEED, count=_COUNT):
        if (seen := crash(body)) and seen not in found:
            small = body if seen == NO_ANSWER else smallest(body, lambda one: crash(one) == seen)
            found[seen] = _curl("POST", path, cheap(small, path, target.model))
            if seen == NO_ANSWER or len(found) == _ENOUGH:
                break
    _expect_none(found)


def _paths_do_no_harm(target: Target) -> None:
    control(target)
    found: dict[Crash, str] = {}
    for operation in operations():
        method, _, path = operation.partition(" ")
        if "{" not in path or "?" in path or operation == "DELETE /models/{model}":
            continue
        start, _, rest = path.partition("{")
        for name in _IDS:
            sent = f"{start}{name}{rest.partition('}')[2]}"
            curl = _curl(method, sent)
            if seen := _crash(lambda: target.send(method, sent), curl, target):  # noqa: B023
                found.setdefault(seen, curl)
    _expect_none(found)


def _expect_none(found: dict[Crash, str]) -> None:
    finds = "; ".join(f"{seen.what} to “{curl}”" for seen, curl in found.items())
    fact = together(seen.fact for seen in found)
    expect(not found, f"a generated request gets {finds}", fact=fact)


_GENERATED: dict[str, tuple[Callable[[Target], None], set[Capability]]] = {
    "chat": (partial(_bodies_do_no_harm, "/chat/completions"), set()),
    "completions": (partial(_bodies_do_no_harm, "/completions"), {Capability.COMPLETIONS}),
    "responses": (partial(_bodies_do_no_harm, "/responses"), {Capability.RESPONSES}),
    "embeddings": (partial(_bodies_do_no_harm, "/embeddings"), {Capability.EMBEDDINGS}),
    "paths": (_paths_do_no_harm, set()),
}
for _name, (_run, _needs) in _GENERATED.items():
    rule(
        f"err.generated.{_name}",
        level=QUIRK,
        tier=EXTENDED,
        source="RFC 9110 15.6; openai-openapi: /chat/completions and the paths after it",
        needs=_needs,
        title="No generated request, valid or broken, gets a 5xx, a hang or a reset.",
        breaks="Clients retry a 5xx, so that one bad request is sent again and again.",
        since="2026-11-27",
        heavy=True,
    )(_run)
