"""Checks of net.disconnect: what a server does for a client that goes away, or reads slowly."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from llmengine.types.request import Capability
from pytest_llmengine.contract.assertions import chunks_of, control, finish_reasons, full_text, text
from pytest_llmengine.contract.jobs import at_once, within
from pytest_llmengine.contract.outcomes import NoVerdict, Unmeasured, expect, quote
from pytest_llmengine.contract.registry import EXTENDED, QUIRK, check
from pytest_llmengine.contract.target import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_llmengine.contract.target import Target

rule = partial(
    check, group="net", level=QUIRK, tier=EXTENDED, since="2026-11-27", alone=True, heavy=True
)

CHAT = "/chat/completions"
ENDLESS = "Count from 1 to 5000: write the numbers from 1 to 5000 in words."
MAX_TOKENS = (300, 900, 1800)  # the next if the server writes an answer of these in no time
ROUNDS = 10
ENOUGH = 2  # answers that are not freed; each leaves the server busy
HOLD = 0.5  # seconds until the client goes away
FREE = 2.5  # seconds that the server has to notice it
# llama.cpp looks for a client that has gone when there was no result for a second, and the answer
# to a question about its slots is a result. So the pause between two questions is longer.
PAUSE = 1.25  # seconds
FULL = 1.0  # seconds by which long answers delay a short one, if the server is full
OTHERS = 2.0  # seconds in which the requests of other clients show
LONGEST_WAIT = 60.0  # seconds for answers that no client reads
RUNNING = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|llamacpp:requests_(?:processing|deferred)"
    r"|sglang:num_(?:running|queue)_reqs)(?:\{.*\})? ([\d.]+)",
    re.MULTILINE,
)


def _disconnect(target: Target, *, streamed: bool) -> str:
    """Go away from ten long answers, and expect each to be given up soon; say how soon."""
    target.need_direct()
    target.need_clock()
    control(target)
    taken: list[float | None] = []
    try:
        for seconds in _rounds(target, streamed=streamed):
            taken.append(seconds)
            if taken.count(None) == ENOUGH:
                break
        wrong = taken.count(None)
        is_idle = wrong and _becomes_idle(target, LONGEST_WAIT) is not None
        if is_idle and _seconds_until(target, OTHERS, bool) is not None:
            raise Unmeasured("other clients use the server, so it is not known whose work it does")
    finally:
        target.keep_exchanges((), most=16)
    expect(
        not wrong,
        f"{FREE:g} s after the client went away, the server was still working on {wrong} of "
        f"{len(taken)} answers",
    )
    longest = max(seconds for seconds in taken if seconds is not None)
    return f"the server gave up each of {len(taken)} answers within {longest:.1f} s"


for _name, _what in (("stream", "a stream"), ("whole", "a whole answer")):
    rule(
        f"net.disconnect.{_name}",
        source="ggml-org/llama.cpp#24496; vllm-project/vllm#54947",
        timing=True,
        needs={Capability.STREAMING} if _name == "stream" else (),
        title=f"When the client goes away from {_what}, the server gives it up within {FREE:g} s.",
        breaks="Users who cancel, and clients that time out and try again, fill the server with "
        "work that no client waits for.",
    )(partial(_disconnect, streamed=_name == "stream"))


@rule(
    "net.slow_reader",
    source="RFC 9293 3.8.6: the window",
    needs={Capability.STREAMING},
    breaks="A client on a slow line gets half a text, or makes the other clients wait.",
)
def slow_reader(target: Target) -> None:
    """A client that reads a stream slowly gets all of it, and others are answered meanwhile."""
    target.need_direct()
    control(target)
    # The log-probabilities make the chunks large, so that the buffers between the two are full.
    body = target.chat_body(
        "Count from 1 to 60.", max_tokens=120, stream=True, logprobs=True, top_logprobs=20
    )
    fast = target.post(CHAT, body)
    if fast.is_refusal:
        body = {k: v for k, v in body.items() if "logprobs" not in k}
        fast = target.post(CHAT, body)
    expected = text(chunks_of(fast))
    seconds = target.exchanges[-1].seconds
    blocked: list[NoVerdict] = []

    def ask_for_another() -> None:
        try:
            within(max(5.0, 5 * seconds), partial(control, target))
        except NoVerdict as late:
            blocked.append(late)

    pauses: Iterator[Callable[[], object]] = chain(
        [ask_for_another], repeat(partial(time.sleep, 0.01), 30), repeat(bool)
    )

    def pause() -> None:
        next(pauses)()

    with target.kept_alive(receive_buffer=4096):
        slow = chunks_of(target.post(CHAT, body, reading=Reading(after_chunk=pause)))
    expect(not blocked, "while a client does not read, other clients get no answer")
    expect(finish_reasons(slow), "the stream of a client that reads slowly has no end")
    if text(slow) != expected and text(chunks_of(target.post(CHAT, body))) != expected:
        raise Unmeasured("the server answers differently each time, also at temperature 0")
    expect(
        text(slow) == expected,
        f"a client that reads slowly gets {quote(text(slow))}, one that does not {quote(expected)}",
    )


def _rounds(target: Target, *, streamed: bool) -> Iterator[float | None]:
    """Go away from ten answers; yield when the server gave up each of them, None if too late."""
    if _running(target) is None:
        yield from _rounds_by_time(target, _long_request(target, streamed=streamed))
        return
    if _becomes_idle(target, LONGEST_WAIT) is None:
        raise Unmeasured("the server works on requests of others")
    body = _long_request(target, streamed=streamed)
    for _ in range(ROUNDS):
        yield _becomes_idle(target, FREE)
        if _becomes_idle(target, LONGEST_WAIT) is None:
            return  # it still writes an answer that no client reads
        if not any(_leave_while_busy(target, body, hold) for hold in (HOLD, 4 * HOLD, 16 * HOLD)):
            raise Unmeasured("the server does not show a request while it works on it")


def _long_request(target: Target, *, streamed: bool) -> dict[str, Any]:
    """A request whose answer takes longer than the client stays and the server may take."""
    for tokens in MAX_TOKENS:
        body = target.chat_body(ENDLESS, max_tokens=tokens, stream=streamed)
        reply = target.post(CHAT, body, reading=Reading(seconds=2 * HOLD + FREE))
        if reply.left:
            return body
        if streamed:
            chunks_of(reply)
        else:
            full_text(reply.success())
    raise Unmeasured(f"no answer takes {2 * HOLD + FREE:g} s, so the server has nothing to give up")


def _running(target: Target) -> int | None:
    """How many requests the server says that it works on; None if it does not say it."""
    slots = target.get("/slots", root=True)
    if slots.ok and slots.text.startswith("["):
        return sum(bool(slot.get("is_processing")) for slot in json.loads(slots.body))
    found = RUNNING.findall(target.get("/metrics", root=True).text)
    return int(sum(map(float, found))) if found else None


def _becomes_idle(target: Target, limit: float) -> float | None:
    return _seconds_until(target, limit, lambda running: not running, pause=PAUSE)


def _leave_while_busy(target: Target, body: dict[str, Any], hold: float) -> bool:
    """Go away after so many seconds; False unless the server worked on the request by then."""
    jobs: list[Callable[[], object]] = [
        partial(_leave, target, body, hold),
        partial(_seconds_until, target, hold, bool),
    ]
    left, busy = at_once(jobs)
    return bool(left) and busy is not None


def _seconds_until(
    target: Target, limit: float, wanted: Callable[[int], bool], *, pause: float = 0.05
) -> float | None:
    """When the number of running requests is as wanted; None if not within so many seconds."""
    start = time.monotonic()
    while True:
        left = start + limit - time.monotonic()
        if wanted(_running(target) or 0):
            return time.monotonic() - start
        if left <= 0:
            return None
        time.sleep(max(0.0, min(pause, left)))


def _leave(target: Target, body: dict[str, Any], seconds: float = HOLD) -> bool:
    """Go away after these seconds; False if the answer ended before."""
    return target.post(CHAT, body, reading=Reading(seconds=seconds), patient=False).left


def _rounds_by_time(target: Target, body: dict[str, Any]) -> Iterator[float | None]:
    """The same by the time of a short request, for a server that long answers make slow."""
    short = target.chat_body("Say hello.", max_tokens=1)
    idle = max(_seconds(target, short) for _ in range(3))
    for clients in (2, 8, 32):
        leave = partial(_leave, target, body, HOLD + FULL + 4 * idle)
        jobs: list[Callable[[], float]] = [*[leave] * clients, partial(_later, target, short)]
        if at_once(jobs)[-1] > FULL + 3 * idle:
            break
        time.sleep(FULL)
    else:
        raise Unmeasured(
            "the server does not say what it works on, and long answers do not slow it"
        )
    for _ in range(ROUNDS):
        at_once([partial(_leave, target, body)] * clients)
        seconds = _seconds(target, short)
        yield seconds if seconds <= FREE + 2 * idle else None


def _later(target: Target, short: dict[str, Any]) -> float:
    time.sleep(HOLD / 2)
    return _seconds(target, short)


def _seconds(target: Target, body: dict[str, Any]) -> float:
    start = time.monotonic()
    full_text(target.post(CHAT, body).success())
    return time.monotonic() - start
