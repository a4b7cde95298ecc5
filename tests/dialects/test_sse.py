"""Server-sent events, however their bytes are split."""

from __future__ import annotations

import pytest

from llmengine.dialects.framing import SSEDecoder


def _events(*pieces: bytes) -> list[bytes]:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.finish()


CASES = {
    "lf": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed line ends": (b"data: a\r\n\ndata: b\n\rdata: c\r\r\n", [b"a", b"b", b"c"]),
    "several data lines": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "several data lines, crlf": (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
    "no blank after the colon": (b"data:a\n\n", [b"a"]),
    "only one blank is dropped": (b"data:  a\n\n", [b" a"]),
    "data without a colon": (b"data\ndata\n\n", [b"\n"]),
    "comments": (b": ping\n\n:\n\ndata: a\n: ping\n\n", [b"a"]),
    "other fields": (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    "an event without data": (b"event: x\n\ndata: a\n\n", [b"a"]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a mark later is data": (b"data: a\n\ndata: \xef\xbb\xbf\n\n", [b"a", b"\xef\xbb\xbf"]),
    "utf-8": ("data: é漢😀\n\n".encode(), ["é漢😀".encode()]),
    "no last blank line": (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    "no last line end": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=list(CASES))
def test_events_do_not_depend_on_the_cuts(body: bytes, expected: list[bytes]) -> None:
    """Whole, split in two anywhere and byte by byte, a body gives the same events."""
    assert _events(body) == expected
    assert _events(*(bytes([b]) for b in body)) == expected
    for at in range(len(body) + 1):
        assert _events(body[:at], body[at:]) == expected, at


def test_an_event_comes_with_its_last_byte() -> None:
    """An event is given as soon as its blank line is there, also after a CR alone."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n") == []
    assert decoder.feed(b"\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\n\n") == [b"b"]


def test_finish_gives_nothing_twice() -> None:
    """``finish`` does not repeat what ``feed`` gave."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\n") == [b"a"]
    assert decoder.finish() == []


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """A megabyte in pieces of eight bytes is one event; a new scan for each piece would hang."""
    decoder = SSEDecoder()
    for piece in [b"data: ", *[b"x" * 8] * 131_072]:
        assert decoder.feed(piece) == []
    assert [len(event) for event in decoder.feed(b"\n\n")] == [1_048_576]


def test_first_line_that_is_not_a_field_is_kept() -> None:
    """The error can quote a body of another kind."""
    decoder = SSEDecoder()
    decoder.feed(b": ping\nevent: x\n<html>\n<body>\n")
    assert decoder.stray == b"<html>"
