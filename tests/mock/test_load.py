"""Slots, clients that go away, and the cache of long prompts."""

from __future__ import annotations

import queue
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import Behaviour, MockServer

if TYPE_CHECKING:
    from llmengine.mock import ReceivedRequest

CHAT = "/v1/chat/completions"
LONG = "Count from 1 to 5000."  # the mock takes seconds to write the answer


def body(prompt: str = LONG, **params: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {
        "model": "mock",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 4000,
        **params,
    }


def writing(client: httpx.Client) -> float:
    """The number of answers that the server says it writes."""
    found = re.search(r"num_requests_running\{.*\} ([\d.]+)", client.get("/metrics").text)
    assert found
    return float(found[1])


def leave(client: httpx.Client, request: dict[str, Any]) -> None:
    """Send a request, and go away while the server writes the answer."""
    with (
        suppress(httpx.ReadTimeout),
        client.stream("POST", CHAT, json=request, timeout=0.2) as response,
    ):
        assert writing(client) == 1
        next(response.iter_bytes())


@pytest.mark.parametrize("streamed", [False, True])
def test_the_server_gives_up_when_the_client_goes_away(streamed: bool) -> None:
    """The metrics count answers being written, and the hook learns of clients that left."""
    gone: queue.Queue[ReceivedRequest] = queue.Queue()
    with (
        MockServer(behaviour=Behaviour("watched", left=gone.put)) as server,
        httpx.Client(base_url=server.root_url) as client,
    ):
        leave(client, body(stream=streamed))
        assert gone.get(timeout=5).json["stream"] is streamed
        assert writing(client) == 0


def test_requests_wait_for_a_slot() -> None:
    """With one slot, the second request is answered after the first one."""
    ended: list[int] = []
    hook = Behaviour("watched", sent=lambda call: ended.append(call.json["max_tokens"]))
    with (
        MockServer(slots=1, behaviour=hook) as server,
        ThreadPoolExecutor() as threads,
        httpx.Client(base_url=server.root_url) as client,
    ):
        first = threads.submit(client.post, CHAT, json=body(max_tokens=600))
        while writing(client) == 0:
            pass
        assert client.post(CHAT, json=body("Hi", max_tokens=2)).is_success
        assert first.result().is_success
    assert ended == [600, 2]


def test_a_long_prompt_is_cached() -> None:
    """A prompt of 1024 tokens or more is cached in blocks of 128, and a shorter one is not."""
    with MockServer() as server, httpx.Client(base_url=server.root_url) as client:

        def cached(prompt: str) -> int:
            reply = client.post(CHAT, json=body(prompt, max_tokens=1)).json()
            return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert [cached("a " * 600) for _ in range(2)] == [0, 0]
        assert [cached("b " * 1500) for _ in range(2)] == [0, 1408]
        assert cached("b " * 1200 + "c") == 1152
        assert cached("d " * 1500) == 0


def test_requests_over_one_connection_have_one_client() -> None:
    """The port of the client tells connections apart."""
    with MockServer() as server:
        with httpx.Client(base_url=server.root_url) as client:
            assert client.get("/health").is_success
            assert client.get("/health").is_success
        httpx.get(f"{server.root_url}/health")
        first, second, other = (call.client for call in server.calls)
    assert first == second != other
