"""Recorder and replayer send the bytes of the upstream, chunk by chunk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_llmengine.recording import RecordingOptions
    from tests.recording.conftest import (
        Ask,
        ChunksOf,
        Kept,
        ManualClock,
        RawUpstream,
        StreamOf,
        Whole,
    )

NO_ANSWER = "disconnected without sending a response"
EMOJI = "data: 😀\n\n".encode()
SPLIT = [b"data: a\n\n", EMOJI[:8], EMOJI[8:], b"data: [DONE]\n\n"]


def test_chunks_keep_their_boundaries(
    upstream: RawUpstream, stream_of: StreamOf, path: Path, chunks_of: ChunksOf
) -> None:
    """A stream with an emoji split over two chunks arrives in the same pieces three times."""
    upstream.will_send(*stream_of(*SPLIT))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        passed = chunks_of(recorder.root_url + "/v1/stream")
    with ReplayServer() as player, player.cassette(path):
        played = chunks_of(player.root_url + "/v1/stream")
    assert passed == played == SPLIT


def test_a_chunk_is_kept_whole_when_it_comes_in_two_reads(
    client: httpx.Client, upstream: RawUpstream, stream_of: StreamOf, path: Path, kept: Kept
) -> None:
    """The unit is the HTTP chunk, not the read that has a part of it."""
    sent, pause = stream_of(b"one chunk", b"more"), threading.Event()
    upstream.will_send(sent[0] + sent[1][:7], pause, sent[1][7:], *sent[2:])
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path),
        client.stream("GET", recorder.root_url) as response,
    ):
        pieces = response.iter_raw()
        first = next(pieces)
        pause.set()
        rest = list(pieces)
    assert (first, rest) == (b"one ", [b"chunk", b"more"])
    assert kept(path)[0]["response"]["llmengine"]["sizes"] == [9, 4]


def test_a_chunk_is_passed_on_before_the_next_one_exists(
    client: httpx.Client, upstream: RawUpstream, stream_of: StreamOf, path: Path
) -> None:
    """The upstream sends its second chunk only after the client has the first."""
    sent, has_first = stream_of(b"first", b"second"), threading.Event()
    upstream.will_send(*sent[:2], has_first, *sent[2:])
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path),
        client.stream("GET", recorder.root_url) as response,
    ):
        chunks = response.iter_raw()
        assert next(chunks) == b"first"
        has_first.set()
        assert next(chunks) == b"second"


def test_offsets_are_kept_and_played_when_asked(
    client: httpx.Client,
    upstream: RawUpstream,
    stream_of: StreamOf,
    path: Path,
    kept: Kept,
    manual_clock: ManualClock,
) -> None:
    """A pause between chunks is in the file, and with timing="recorded" waited for again."""
    sent, later = stream_of(b"first", b"second"), threading.Event()
    upstream.will_send(*sent[:2], later, *sent[2:])
    with (
        RecordServer(upstream.url, clock=manual_clock) as recorder,
        recorder.cassette(path),
        client.stream("GET", recorder.root_url) as response,
    ):
        chunks = response.iter_raw()
        assert next(chunks) == b"first"
        manual_clock.now += 30
        later.set()
        assert list(chunks) == [b"second"]
    timeline = kept(path)[0]["response"]["llmengine"]
    assert (timeline["head_ms"], timeline["at_ms"]) == (0, [0, 30_000])

    options: RecordingOptions = {"timing": "recorded", "speed": 10, "clock": manual_clock}
    with ReplayServer(**options) as player, player.cassette(path):
        assert client.get(player.root_url).text == "firstsecond"
    assert manual_clock.slept == [0.0, 0.0, 3.0]


@pytest.mark.parametrize("options", [{}, {"timing": "recorded", "speed": 100_000.0}])
def test_offsets_can_be_skipped_or_shortened(
    client: httpx.Client, path: Path, upstream: RawUpstream, whole: Whole, options: dict[str, Any]
) -> None:
    """A recording of ten minutes is replayed at once, or faster by a factor."""
    upstream.will_send(whole(b"slow"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        client.get(recorder.root_url)
    document = yaml.safe_load(path.read_text())
    document["interactions"][0]["response"]["llmengine"]["at_ms"] = [600_000]
    path.write_text(yaml.safe_dump(document))

    with ReplayServer(**options) as player, player.cassette(path):
        assert client.get(player.root_url).text == "slow"


def test_a_broken_stream_breaks_at_the_same_place(
    upstream: RawUpstream, cut_stream_of: StreamOf, path: Path, chunks_of: ChunksOf, kept: Kept
) -> None:
    """The chunks before a cut come, and then the connection ends in the middle."""
    upstream.will_send(b"".join(cut_stream_of(b"one", b"two")))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        passed = chunks_of(recorder.root_url)
    with ReplayServer() as player, player.cassette(path):
        played = chunks_of(player.root_url)
    assert passed == played == [b"one", b"two", b"<broken>"]
    assert kept(path)[0]["response"]["llmengine"]["cut"] == "upstream"


def test_a_body_shorter_than_its_length_is_a_cut(
    upstream: RawUpstream, whole: Whole, path: Path, chunks_of: ChunksOf
) -> None:
    """The replay has the same Content-Length and the same cut."""
    upstream.will_send(whole(b"promised")[:-3])
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        passed = chunks_of(recorder.root_url)
    with ReplayServer() as player, player.cassette(path):
        played = chunks_of(player.root_url)
    assert passed == played == [b"promi", b"<broken>"]


@pytest.mark.parametrize(
    "sent",
    [b"", b"SMTP, not HTTP\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
    ids=["nothing", "nonsense", "another protocol"],
)
def test_no_answer_is_replayed_as_no_answer(
    upstream: RawUpstream, path: Path, ask: Ask, kept: Kept, sent: bytes
) -> None:
    """If a server closes without an HTTP answer, the replay does too."""
    upstream.will_send(sent)
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path),
        pytest.raises(httpx.RemoteProtocolError, match=NO_ANSWER),
    ):
        ask(recorder.root_url)
    with (
        ReplayServer() as player,
        player.cassette(path),
        pytest.raises(httpx.RemoteProtocolError, match=NO_ANSWER),
    ):
        ask(player.root_url)
    assert kept(path)[0]["response"]["status"]["code"] == 502


def test_status_reason_and_headers_survive(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """An error with its own reason, repeated headers and no content type."""
    upstream.will_send(
        whole(b'{"error": 1}', status="418 Short And Stout", headers="X-A: 1\r\nX-A: 2\r\n")
    )
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        passed = ask(recorder.root_url)
    with ReplayServer() as player, player.cassette(path):
        played = ask(player.root_url)
    for answer in (passed, played):
        assert (answer.status_code, answer.reason_phrase) == (418, "Short And Stout")
        assert answer.headers.get_list("x-a") == ["1", "2"]
        assert set(answer.headers) == {"content-length", "x-a", "date"}
        assert answer.json() == {"error": 1}


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        ("GET", b"HTTP/1.0 200 OK\r\n\r\nuntil it closes"),
    ],
)
def test_answers_without_a_framed_body(
    client: httpx.Client, upstream: RawUpstream, path: Path, method: str, sent: bytes
) -> None:
    """Answers with other framing are the same live and replayed."""
    upstream.will_send(sent)
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        passed = client.request(method, recorder.root_url)
    with ReplayServer() as player, player.cassette(path):
        played = client.request(method, player.root_url)
    ignored = {"date"}
    assert passed.status_code == played.status_code
    assert passed.content == played.content
    assert {k: v for k, v in passed.headers.items() if k not in ignored} == {
        k: v for k, v in played.headers.items() if k not in ignored
    }


def test_the_upstream_sees_the_client_s_request(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """Key, path, query and body are sent; Host is the upstream's; no compression."""
    upstream.will_send(whole(b"{}"))
    with RecordServer(upstream.url + "/base/") as recorder, recorder.cassette(path):
        ask(
            recorder.root_url,
            None,
            "/v1/chat?x=%2F",
            content=b'{"a":1}',
            headers={"Authorization": "Bearer sk-1", "Connection": "x-mine", "X-Mine": "1"},
        )
    head, _, body = upstream.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /base/v1/chat?x=%2f http/1.1"
    assert b"authorization: bearer sk-1" in lines
    assert b"host: " + upstream.url.removeprefix("http://").encode() in lines
    assert b"accept-encoding: identity" in lines
    assert not any(line.startswith((b"x-mine", b"connection")) for line in lines)
    assert body == b'{"a":1}'

    with ReplayServer() as player, player.cassette(path):
        assert ask(player.root_url, {"a": 1}, "/v1/chat?x=%2F").status_code == 200


def test_a_chunked_request_stays_chunked(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """The upstream gets it in chunks, so a refusal of chunks is recorded."""
    upstream.will_send(whole(b"{}"))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        ask(recorder.root_url, content=iter([b'{"a":', b"1}"]))
    assert b"transfer-encoding: chunked" in upstream.requests[0].lower()
    assert b'7\r\n{"a":1}\r\n0\r\n\r\n' in upstream.requests[0]


def test_a_client_that_leaves_is_kept_as_such(
    client: httpx.Client, upstream: RawUpstream, stream_of: StreamOf, path: Path, kept: Kept
) -> None:
    """The part that was sent is kept and marked, and the upstream is closed at once."""
    upstream.will_send(*stream_of(b"first")[:2], None)
    with (
        RecordServer(upstream.url) as recorder,
        recorder.cassette(path) as tape,
    ):
        with client.stream("GET", recorder.root_url) as response:
            assert next(response.iter_raw()) == b"first"
        assert upstream.left.acquire(timeout=10)
    extra = kept(path)[0]["response"]["llmengine"]
    assert (extra["sizes"], extra["cut"], tape.unhandled) == ([5], "client", [])


def test_a_client_that_stops_reading_does_not_hold_the_cassette(
    client: httpx.Client, upstream: RawUpstream, stream_of: StreamOf, path: Path, kept: Kept
) -> None:
    """If an answer is not complete at the end of the block, its part is kept."""
    upstream.will_send(*stream_of(b"first")[:2], None)
    with RecordServer(upstream.url) as recorder:
        with recorder.cassette(path):
            response = client.send(client.build_request("GET", recorder.root_url), stream=True)
        response.close()
    assert kept(path)[0]["response"]["llmengine"]["cut"] == "client"


def test_a_client_that_leaves_after_done_has_a_whole_answer(
    client: httpx.Client, upstream: RawUpstream, stream_of: StreamOf, path: Path, kept: Kept
) -> None:
    """Many clients close after ``[DONE]``, before the end of the body: this is not a cut."""
    sent, closed = stream_of(b"data: [DONE]\n\n"), threading.Event()
    upstream.will_send(*sent[:2], closed, sent[2])
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        with client.stream("GET", recorder.root_url) as response:
            next(response.iter_raw())
        closed.set()
    assert "cut" not in kept(path)[0]["response"]["llmengine"]


def test_an_unreachable_upstream_is_not_recorded(path: Path, ask: Ask) -> None:
    """The client gets a 502 that names the upstream, and an older file is not changed."""
    path.parent.mkdir()
    path.write_text("an older recording")
    with RecordServer("http://127.0.0.1:9") as recorder, recorder.cassette(path) as tape:
        answer = ask(recorder.root_url)
    assert answer.status_code == 502
    assert "http://127.0.0.1:9 cannot be reached" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert len(tape.unhandled) == 1
    assert path.read_text() == "an older recording"
