"""Decompression of answers in small pieces that are counted against the limits.

The HTTP clients would decompress each piece that arrives in one step, on the event loop, although
a kilobyte on the wire can become a megabyte of zeros. Requests accept only the encodings that
this file can decompress.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

from llmengine.types.errors import UnexpectedResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator

    from llmengine.transport.answer_limits import AnswerLimits

ACCEPT_ENCODING = "gzip, deflate"
PIECE = 2**16

_OK = 200
_GZIP_BEGIN = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 31, 15, -15  # values of zlib's wbits, which select the container format


async def unpacked(
    chunks: AsyncIterable[bytes], encoding: str, limits: AnswerLimits
) -> AsyncIterator[bytes]:
    """The decompressed body, in pieces; ``encoding`` is the Content-Encoding of the answer.

    Raises AnswerTooLargeError if the body exceeds a limit, and UnexpectedResponseError for
    compressed data that is cut or damaged, or for an encoding that was not requested.
    """
    unpacker = _unpacker(encoding)
    wire = size = 0
    async for chunk in chunks:
        wire += len(chunk)
        limits.hold("wire_bytes", wire)
        if unpacker is None:
            limits.hold("body_bytes", wire)
            yield chunk
            continue
        for piece in unpacker.feed(chunk):
            size += len(piece)
            limits.hold("body_bytes", size)
            yield piece
            await asyncio.sleep(0)  # lets other calls of the process run
    if unpacker is not None:
        unpacker.finish()


class Unpacker:
    """Decompresses one body into pieces of a bounded size."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._head = b""
        self._stream: zlib._Decompress | None = None
        self._plain = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed pieces of `data`."""
        if self._stream is None:
            data = self._head + data
            if len(data) < len(_GZIP_BEGIN) and not self._plain:
                self._head = data
                return
            self._begin(data)
        if self._plain:
            yield data
            return
        yield from self._inflated(data)

    def finish(self) -> None:
        """Raise UnexpectedResponseError if the compressed data has not ended."""
        if self._head or (self._stream is not None and not self._stream.eof):
            msg = f"the answer is cut: its {self._encoding} data is not complete"
            raise UnexpectedResponseError(msg, status=_OK, cut=True)

    def _begin(self, data: bytes) -> None:
        self._head = b""
        if self._encoding == "gzip":
            # vcrpy's cassettes hold a decompressed body with the headers of the compressed one.
            self._plain = not data.startswith(_GZIP_BEGIN)
            wbits = _GZIP
        else:
            # "deflate" means data in a zlib container (RFC 9110); some servers leave it out.
            wbits = _ZLIB if data[0] & 0x0F == zlib.DEFLATED else _RAW
        if not self._plain:
            self._stream = zlib.decompressobj(wbits)

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        assert self._stream is not None
        while True:
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error as error:
                msg = f"the answer is damaged: its {self._encoding} data cannot be read ({error})"
                raise UnexpectedResponseError(msg, status=_OK, cut=True) from error
            data = self._stream.unconsumed_tail
            if piece:
                yield piece
            if self._stream.eof:
                data = self._stream.unused_data
                if not data.startswith(_GZIP_BEGIN):
                    return  # bytes after the end are ignored
                self._stream = zlib.decompressobj(_GZIP)
            elif not data and len(piece) < PIECE:
                return


def _unpacker(encoding: str) -> Unpacker | None:
    name = encoding.strip().lower().removeprefix("x-")
    if name in {"", "identity"}:
        return None
    if name in {"gzip", "deflate"}:
        return Unpacker(name)
    msg = (
        f"the answer has the Content-Encoding {encoding!r}, but llmengine can read only "
        f"{ACCEPT_ENCODING}; remove the Accept-Encoding from the engine's headers"
    )
    raise UnexpectedResponseError(msg)
