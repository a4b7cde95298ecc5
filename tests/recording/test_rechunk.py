"""A recorded body split in other ways, to test clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmengine.recording import RecordServer, ReplayServer
from pytest_llmengine.recording.chunks import Timeline

if TYPE_CHECKING:
    from pathlib import Path

    from tests.recording.conftest import Ask, ChunksOf, RawUpstream, StreamOf, Whole

BODY = "né 😀!".encode()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (None, [BODY[:4], BODY[4:]]),
        ("bytes", [bytes([byte]) for byte in BODY]),
        ("whole", [BODY]),
        ("inside-characters", [b"n\xc3", b"\xa9 \xf0", b"\x9f\x98\x80!"]),
        (3, [BODY[:3], BODY[3:6], BODY[6:]]),
        ([1, 6], [BODY[:1], BODY[1:6], BODY[6:]]),
        ([0, 99], [BODY]),
    ],
)
def test_a_stream_arrives_as_asked(
    recording: Path, chunks_of: ChunksOf, how: Any, expected: list[bytes]
) -> None:
    """It has the same bytes in other pieces."""
    with ReplayServer(rechunk=how) as player, player.cassette(recording):
        assert chunks_of(player.root_url) == expected


@pytest.fixture
def recording(upstream: RawUpstream, stream_of: StreamOf, path: Path, chunks_of: ChunksOf) -> Path:
    """A stream of two chunks."""
    upstream.will_send(*stream_of(BODY[:4], BODY[4:]))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        chunks_of(recorder.root_url)
    return path


def test_a_whole_answer_can_be_cut_too(
    upstream: RawUpstream, whole: Whole, path: Path, ask: Ask
) -> None:
    """A JSON body with a length becomes a chunked one, so that the client sees the pieces."""
    upstream.will_send(whole(BODY))
    with RecordServer(upstream.url) as recorder, recorder.cassette(path):
        ask(recorder.root_url)
    with ReplayServer(rechunk="bytes") as player, player.cassette(path):
        answer = ask(player.root_url)
    assert answer.content == BODY
    assert answer.headers["transfer-encoding"] == "chunked"


def test_pieces_are_due_when_their_last_byte_had_come() -> None:
    """Another split never sends a byte before its recorded time."""
    line = Timeline(1, (4, 2), (10, 20))
    assert line.rechunked(b"abcdef", 3) == Timeline(1, (3, 3), (10, 20))
    assert line.rechunked(b"abcdef", "bytes").at_ms == (10, 10, 10, 10, 20, 20)
    assert Timeline(1).rechunked(b"", "bytes") == Timeline(1)


@pytest.mark.parametrize(
    ("old", "new", "sizes", "expected"),
    [
        pytest.param(b"same", b"same", (1, 3), (1, 3), id="no edit"),
        pytest.param(b"a KEY b", b"a * b", (3, 4), (3, 2), id="boundary inside"),
        pytest.param(b"KEY", b"*", (1, 1, 1), (1,), id="nothing but edit"),
        pytest.param(b"a\nKEY KEY\nb", b"a\n* *\nb", (2, 3, 6), (2, 3, 2), id="twice in a line"),
        pytest.param(b"one\ntwo\n", b"one\nmore\nlines\ntwo\n", (4, 4), (4, 15), id="lines added"),
        pytest.param(b"gone\nstays\n", b"stays\n", (5, 6), (6,), id="line removed"),
    ],
)
def test_boundaries_move_with_an_edit(
    old: bytes, new: bytes, sizes: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """Sizes always add up to the new body; a boundary inside an edit moves to its end."""
    moved = Timeline(0, sizes, tuple(range(len(sizes)))).moved(old, new)
    assert moved.sizes == expected
    assert sum(moved.sizes) == len(new)


@pytest.mark.parametrize("options", [{"rechunk": 0}, {"speed": 0.0}])
def test_a_size_of_nothing_is_refused(options: dict[str, Any]) -> None:
    """The error of a wrong option comes at once."""
    with pytest.raises(ValueError, match="above 0"):
        ReplayServer(**options)
