"""A server under load: its queue, its pace by a clock that the test moves, and its failures."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import Chaos, Fault, Load, ManualClock, MockReply, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Api

CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "Hi"}]
FIVE = "one two three four five"  # five tokens


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    return ManualClock()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(12) as executor:
        yield executor


def wait_for_queue(api: Api, number: int) -> None:
    """Wait until so many requests wait for a slot, as the metrics say."""
    wanted = f'vllm:num_requests_waiting{{model_name="mock"}} {number}.0'
    while wanted not in api.http.get("/metrics").text:
        pass


def test_full_queue_is_refused_with_retry_after(
    start: Callable[..., Api], clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """One request has the slot, one waits, and the third gets a 429; then all goes on."""
    load = Load(slots=1, queue=1, retry_after=7, time_to_first_token=1)
    api = start(load=load, clock=clock)
    first = threads.submit(api.chat)
    clock.wait_for_sleepers(1)
    second = threads.submit(api.chat)
    wait_for_queue(api, 1)
    refused = api.chat()
    ollama = api.post("/api/chat", messages=USER)
    clock.advance(1)
    assert first.result().status_code == 200
    assert not second.done()
    clock.advance(1)
    assert second.result().status_code == 200

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert (ollama.status_code, type(ollama.json()["error"])) == (429, str)


def test_a_client_that_leaves_the_queue_gives_up_its_place(
    start: Callable[..., Api], clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """The place of a client that went away is free for another."""
    api = start(load=Load(slots=1, queue=1, time_to_first_token=1), clock=clock)
    first = threads.submit(api.chat)
    clock.wait_for_sleepers(1)
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(CHAT, json={"model": "mock", "messages": USER}, timeout=0.1)
    wait_for_queue(api, 0)
    third = threads.submit(api.chat)
    wait_for_queue(api, 1)
    clock.advance(2)

    assert (first.result().status_code, third.result().status_code) == (200, 200)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/api/chat"])
def test_tokens_come_at_their_pace(
    start: Callable[..., Api],
    clock: ManualClock,
    threads: ThreadPoolExecutor,
    path: str,
    stream: bool,
) -> None:
    """The first token comes after its time, and a whole answer after its last token."""
    load = Load(time_to_first_token=2, tokens_per_second=2)
    api = start(load=load, clock=clock, script=Script([FIVE]))
    body = {"input": "Hi"} if path == "/v1/responses" else {"messages": USER, "max_tokens": 99}
    answer = threads.submit(api.post, path, stream=stream, **body)
    clock.wait_for_sleepers(1)
    clock.advance(4.4)
    assert clock.sleepers == 1
    # Five tokens take 2.5 s. A stream has more events, such as the first and the last ones.
    clock.advance(10 if stream else 0.2)

    assert answer.result(10).status_code == 200
    assert "five" in answer.result().text


def test_stream_is_paced_between_its_events(
    start: Callable[..., Api], clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """A client sees the events as the time goes on."""
    load = Load(time_to_first_token=1, tokens_per_second=1)
    api = start(load=load, clock=clock, script=Script([FIVE]))
    body = {"model": "mock", "messages": USER, "stream": True}
    opened = threads.submit(
        api.http.send, api.http.build_request("POST", CHAT, json=body), stream=True
    )
    clock.wait_for_sleepers(1)
    clock.advance(1)
    lines = filter(None, opened.result().iter_lines())
    assert '"role":"assistant"' in next(lines)
    for word in FIVE.split():
        clock.advance(1)
        assert word in next(lines)
    clock.advance(2)
    assert list(lines)[-1] == "data: [DONE]"


def test_jitter_depends_on_the_seed_and_the_request(
    start: Callable[..., Api], threads: ThreadPoolExecutor
) -> None:
    """The same seed gives the same times, within the share."""

    def times(seed: int) -> list[float]:
        clock = ManualClock()
        api = start(load=Load(time_to_first_token=10, jitter=0.5, seed=seed), clock=clock)
        for number, prompt in enumerate("abcd", 1):
            threads.submit(api.chat, prompt)
            clock.wait_for_sleepers(number)
        found = []
        for left in (3, 2, 1, 0):
            while clock.sleepers > left:
                clock.advance(0.1)
            found.append(round(clock.now, 1))
        return found

    first, again, other = times(1), times(1), times(2)

    assert first == again != other
    assert len(set(first)) > 2
    assert all(4.9 <= seconds <= 15.1 for seconds in first + other)


MIXED = Chaos(status=0.2, cut=0.2, malformed=0.2, retry_after=3)


def outcome(api: Api, number: int) -> str:
    """What a request with a prompt of its own met."""
    try:
        response = api.chat(f"prompt {number}")
    except httpx.RemoteProtocolError:
        return "cut"
    if response.status_code != 200:
        assert response.headers["retry-after"] == "3"
        return "status"
    with suppress(ValueError):
        return str(response.json()["object"])
    return "malformed"


def test_failures_by_chance_depend_on_the_seed_alone(
    start: Callable[..., Api], threads: ThreadPoolExecutor
) -> None:
    """Each request meets the same, one after another or at once; not so with another seed."""

    def outcomes(seed: int, every: Callable[..., Any]) -> list[str]:
        api = start(load=Load(chaos=MIXED, seed=seed))
        return list(every(lambda number: outcome(api, number), range(50)))

    alone, at_once = outcomes(3, map), outcomes(3, threads.map)
    counts = Counter(alone)

    assert alone == at_once != outcomes(4, threads.map)
    assert counts.keys() == {"chat.completion", "status", "cut", "malformed"}
    assert all(3 <= counts[kind] <= 30 for kind in counts)


def test_a_retry_is_another_draw(start: Callable[..., Api]) -> None:
    """The same request again may succeed, and the statuses are those of the chaos."""
    api = start(load=Load(chaos=Chaos(status=0.5)))
    statuses = {api.chat().status_code for _ in range(20)}

    assert {200} < statuses <= {200, 429, 500, 503}


def test_streams_are_cut_at_different_places(start: Callable[..., Api]) -> None:
    """A cut comes anywhere in a stream, and never after its end."""
    api = start(load=Load(chaos=Chaos(cut=1)))
    lengths = set()
    for number in range(5):
        body = {"model": "mock", "messages": USER, "stream": True, "seed": number}
        received = b""
        with (
            suppress(httpx.RemoteProtocolError),
            api.http.stream("POST", CHAT, json=body) as response,
        ):
            for part in response.iter_raw():
                received += part
        assert b"[DONE]" not in received
        lengths.add(received.count(b"data: "))

    assert len(lengths) > 2


def test_stalled_and_slow_answers(
    start: Callable[..., Api], clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """A stalled answer never ends; a slow one starts after its seconds."""
    api = start(load=Load(chaos=Chaos(stall=1)), clock=clock)
    body = {"model": "mock", "messages": USER}
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(CHAT, json=body, timeout=0.2)
    api.server.simulate(Load(chaos=Chaos(slow=1, slow_seconds=9)))
    answer = threads.submit(api.chat)
    clock.wait_for_sleepers(1)
    clock.advance(8)
    assert clock.sleepers == 1
    clock.advance(1)

    assert answer.result(10).status_code == 200


def test_request_that_fails_by_chance_uses_no_reply(start: Callable[..., Api]) -> None:
    """The reply is left for the retry, and a load can be taken back."""
    api = start(load=Load(chaos=Chaos(status=1, statuses=(503,))), script=Script(["good"]))

    assert api.chat().status_code == 503
    api.server.simulate(Load())
    assert api.text() == "good"
    api.server.assert_as_scripted()


def test_scripted_stall_sends_what_comes_before_it(start: Callable[..., Api]) -> None:
    """The first events come, and then nothing until the client gives up."""
    api = start()
    api.server.when().reply(MockReply(FIVE, fault=Fault(stall_after=3)))
    body = {"model": "mock", "messages": USER, "stream": True}
    with api.http.stream("POST", CHAT, json=body, timeout=0.2) as response:
        parts = response.iter_raw()
        received = b"".join(next(parts) for _ in range(3))
        with pytest.raises(httpx.ReadTimeout):
            next(parts)

    assert received.count(b"data: ") == 3


def test_embeddings_take_time_too(
    start: Callable[..., Api], clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """The time to the first token is that of any answer to a POST request."""
    api = start(load=Load(time_to_first_token=5), clock=clock)
    answer = threads.submit(api.post, "/v1/embeddings", input="Hi")
    clock.wait_for_sleepers(1)
    clock.advance(5)

    assert answer.result(10).status_code == 200
