"""Which recorded answer a request gets, and the message if there is none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.recording.conftest import Ask, RawUpstream, Whole

JSON = {"content-type": "application/json"}


@pytest.fixture
def recorded(upstream: RawUpstream, whole: Whole, path: Path, ask: Ask) -> Callable[..., Path]:
    """Records calls one after the other, each answered with its number."""

    def record(*calls: dict[str, Any]) -> Path:
        with RecordServer(upstream.url) as recorder, recorder.cassette(path):
            for number, call in enumerate(calls):
                upstream.will_send(whole(str(number).encode()))
                ask(recorder.root_url, **call)
        return path

    return record


@pytest.fixture
def replayed(path: Path, ask: Ask) -> Callable[..., int]:
    """Replays one call and returns its status."""

    def replay(call: dict[str, Any]) -> int:
        with ReplayServer() as player, player.cassette(path):
            return ask(player.root_url, **call).status_code

    return replay


@pytest.mark.parametrize(
    "same",
    [
        {"content": b'{"b": [1, {"x": null}],\n "a": true}', "headers": JSON},
        {"content": b'{"a":true,"b":[1.0,{"x":null}]}', "headers": JSON},
        {"content": b'{"a":true,"b":[1,{"x":null}]}', "headers": {"authorization": "Bearer other"}},
    ],
    ids=["key order and spaces", "1.0 for 1", "other headers"],
)
def test_the_same_json_value_matches(
    recorded: Callable[..., Path], replayed: Callable[..., int], same: dict[str, Any]
) -> None:
    """A body is compared as a value."""
    recorded({"body": {"a": True, "b": [1, {"x": None}]}})
    assert replayed(same) == 200


@pytest.mark.parametrize(
    "other",
    [
        {"body": {"a": 1}},
        {"body": {"a": True, "b": 0}},
        {"body": {"a": True}, "path": "/v1/other"},
        {"body": {"a": True}, "path": "/v1/chat?x=1"},
        {"content": b"{a: true}"},
    ],
    ids=["1 for true", "one more key", "path", "query", "not JSON"],
)
def test_another_request_does_not(
    recorded: Callable[..., Path], replayed: Callable[..., int], other: dict[str, Any]
) -> None:
    """True and 1 are equal in Python, but not in JSON."""
    recorded({"body": {"a": True}})
    assert replayed(other) == 501


def test_multipart_matches_under_another_boundary(
    recorded: Callable[..., Path], replayed: Callable[..., int]
) -> None:
    """Clients choose the boundary at random; the parts are compared byte by byte."""

    def upload(content: bytes) -> dict[str, Any]:
        return {"files": {"file": ("a.txt", content)}}

    recorded(upload(b"same"))
    assert replayed(upload(b"same")) == 200
    assert replayed(upload(b"else")) == 501


def test_the_same_request_is_played_in_order_each_once(
    recorded: Callable[..., Path], ask: Ask
) -> None:
    """After two recorded calls the third is a miss that says so."""
    path = recorded({"body": {"a": 1}}, {"body": {"a": 1}})
    with ReplayServer() as player, player.cassette(path) as tape:
        answers = [ask(player.root_url, {"a": 1}) for _ in range(3)]
    assert [answer.text for answer in answers[:2]] == ["0", "1"]
    assert answers[2].status_code == 501
    assert "recorded 2 time(s) and each was played" in tape.unhandled[0]


def test_repeats_give_the_last_answer_again(recorded: Callable[..., Path], ask: Ask) -> None:
    """With repeats the order is kept, and the last answer is repeated."""
    path = recorded({"body": {"a": 1}}, {"body": {"a": 1}})
    with ReplayServer(repeats=True) as player, player.cassette(path) as tape:
        answers = [ask(player.root_url, {"a": 1}).text for _ in range(4)]
    assert (answers, tape.unhandled) == (["0", "1", "1", "1"], [])


def test_calls_in_flight_at_once_are_kept_in_order_of_arrival(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """The first call is answered last, and still comes first in the file."""
    second_done = threading.Event()
    upstream.will_send(second_done, whole(b"first"))
    upstream.will_send(whole(b"second"))
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path),
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(ask, recorder.root_url)
        assert upstream.arrived.acquire(timeout=10)
        assert ask(recorder.root_url).text == "second"
        second_done.set()
        assert first.result().text == "first"
    with ReplayServer() as player, player.cassette(path):
        assert [ask(player.root_url).text for _ in range(2)] == ["first", "second"]


def test_a_miss_shows_the_nearest_request_and_the_difference(
    recorded: Callable[..., Path], ask: Ask
) -> None:
    """The difference is of formatted bodies, so one changed field is one changed line."""
    far = {"model": "m", "messages": [{"role": "user", "content": "far away"}], "n": 3}
    near = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    path = recorded({"body": far}, {"body": near})
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    with ReplayServer() as player, player.cassette(path) as tape:
        answer = ask(player.root_url, asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (501, "cassette_miss")
    assert answer.headers["x-should-retry"] == "false"
    assert error["message"] == tape.unhandled[0]
    assert f"POST /v1/chat has no answer in {path}. Nearest of 2 is number 2" in tape.unhandled[0]
    assert '-      "content": "Hello",\n+      "content": "Hello!",' in tape.unhandled[0]


def test_a_long_difference_is_cut(recorded: Callable[..., Path], ask: Ask) -> None:
    """The message stays short if a long body differs."""
    path = recorded({"body": {"words": ["a" * 500] * 100}})
    with ReplayServer() as player, player.cassette(path) as tape:
        ask(player.root_url, {"words": ["b" * 500] * 100})
    assert len(tape.unhandled[0].splitlines()) < 50
    assert max(map(len, tape.unhandled[0].splitlines())) < 300


def test_what_was_not_asked_for_is_unused(recorded: Callable[..., Path], ask: Ask) -> None:
    """A test with fewer calls than its recording gets the list of the others."""
    path = recorded({"body": {"a": 1}}, {"body": {"b": 1}, "path": "/v1/other?x=1"})
    with ReplayServer() as player, player.cassette(path) as tape:
        ask(player.root_url, {"a": 1})
    assert tape.unused == ["number 2, POST /v1/other?x=1"]


def test_an_empty_cassette_is_a_recording_too(recorded: Callable[..., Path], ask: Ask) -> None:
    """A test without calls has a file, and a call in the replay is a miss."""
    path = recorded()
    with ReplayServer() as player, player.cassette(path) as tape:
        assert ask(player.root_url).status_code == 501
    assert "the cassette is empty" in tape.unhandled[0]
