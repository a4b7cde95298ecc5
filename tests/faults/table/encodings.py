"""Content encodings: compressed bodies that are cut, wrong, unknown or bombs."""

from __future__ import annotations

import gzip
import zlib
from functools import cache
from typing import TYPE_CHECKING

from ..fault import Fault
from ..server import Script, reply

if TYPE_CHECKING:
    from faults.wires import Asked

GZIP = "Content-Encoding: gzip"
_BOMB = 128 * 2**20  # far beyond the limits of the matrix


@cache
def _bomb(start: bytes) -> bytes:
    """A small body that is a large one when it is decompressed."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    blanks = bytes(2**20).replace(b"\0", b" ")
    parts = [packer.compress(start), *(packer.compress(blanks) for _ in range(_BOMB // 2**20))]
    return b"".join([*parts, packer.flush()])


def _raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


def _packed(encoding: str, data: bytes, asked: Asked) -> Script:
    return [reply(asked, data, f"Content-Encoding: {encoding}")]


TOO_LARGE, NOTHING = "AnswerTooLargeError", "StreamIncompleteError retried"
BAD, RETRIED = "UnexpectedResponseError", "UnexpectedResponseError retried"

ENCODINGS: tuple[Fault, ...] = (
    Fault("gzip", lambda a: _packed("gzip", gzip.compress(a.body), a)),
    Fault("gzip in capitals", lambda a: _packed("GZIP", gzip.compress(a.body), a)),
    Fault(
        "gzip in two members",
        lambda a: _packed("gzip", gzip.compress(a.first) + gzip.compress(a.rest), a),
    ),
    Fault(
        "gzip that is cut",
        lambda a: _packed("gzip", gzip.compress(a.body)[:-20], a),
        RETRIED,
        "UnexpectedResponseError partial",
    ),
    Fault("gzip that is not gzip", lambda a: _packed("gzip", a.body, a)),
    Fault(
        "gzip with garbage after it",
        lambda a: _packed("gzip", gzip.compress(a.body) + b"garbage", a),
    ),
    Fault("gzip of nothing", lambda a: _packed("gzip", b"", a), RETRIED, NOTHING),
    Fault(
        "gzip of gzip",
        lambda a: _packed("gzip, gzip", gzip.compress(gzip.compress(a.body)), a),
        BAD,
        BAD,
    ),
    Fault(
        "a gzip bomb",
        lambda a: _packed("gzip", _bomb(a.first), a),
        TOO_LARGE,
        f"{TOO_LARGE} partial",
    ),
    Fault("deflate", lambda a: _packed("deflate", zlib.compress(a.body), a)),
    Fault("deflate without a header", lambda a: _packed("deflate", _raw_deflate(a.body), a)),
    Fault("an unknown encoding", lambda a: _packed("banana", a.body, a), BAD, BAD),
    Fault("br that is not br", lambda a: _packed("br", a.body, a), BAD, BAD),
    Fault("identity", lambda a: _packed("identity", a.body, a)),
)
