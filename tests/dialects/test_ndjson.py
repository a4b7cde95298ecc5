"""Newline-delimited JSON, however its bytes are split."""

from __future__ import annotations

import pytest

from llmengine.dialects.framing import NDJSONDecoder


def _lines(*pieces: bytes) -> list[bytes]:
    decoder = NDJSONDecoder()
    lines = [line for piece in pieces for line in decoder.feed(piece)]
    return [line.strip() for line in lines + decoder.finish()]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'\n{"a":1}\n\r\n\n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        ('{"a":"é漢😀"}\n'.encode(), ['{"a":"é漢😀"}'.encode()]),
        (b"", []),
    ],
    ids=["lf", "crlf", "blank lines and no last line end", "utf-8", "nothing"],
)
def test_lines_do_not_depend_on_the_cuts(body: bytes, expected: list[bytes]) -> None:
    """Whole, split in two anywhere and byte by byte, a body gives the same lines."""
    assert _lines(body) == expected
    assert _lines(*(bytes([b]) for b in body)) == expected
    for at in range(len(body) + 1):
        assert _lines(body[:at], body[at:]) == expected, at


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """A megabyte in pieces of eight bytes is one line; a new scan for each piece would hang."""
    decoder = NDJSONDecoder()
    for piece in [b"x" * 8] * 131_072:
        assert decoder.feed(piece) == []
    assert [len(line) for line in decoder.feed(b"\n")] == [1_048_576]
