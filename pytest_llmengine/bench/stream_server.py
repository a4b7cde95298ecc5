"""A server that answers every request with a stream of events, each with the time of its sending.

    python pytest_llmengine/bench/stream_server.py EVENTS SECONDS PER_WRITE [spread]

The text of each event is ``time.monotonic_ns()`` just before it is written. Each event is a chunk
of its own, PER_WRITE of them are written at once, and SECONDS pass between two writes. Streams that
begin together get their events together, as from a server that batches, unless ``spread`` is given.
It is run as a program and imports nothing of this package, so that it starts fast.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STAMP = b"@"


def event(text: str | None, finish: str | None = None) -> bytes:
    """One event as vLLM sends it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    body = {
        "id": "chatcmpl-8d0a6bb5a7f1450a9a7e9b4d4e4d1f11",
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": "m",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    """The data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# The time has 19 digits for the next years, so every event has the same length.
BEFORE, _, AFTER = chunk(event("0" * 18 + STAMP.decode())).partition(b"0" * 18 + STAMP)
END = chunk(event(None, "stop")) + chunk(b"data: [DONE]\n\n") + chunk(b"")


class StampedStream(asyncio.Protocol):
    """Finds the end of each request and streams the same answer."""

    streams = 0

    def __init__(self, events: int, seconds: float, per_write: int, *, spread: bool) -> None:
        self._events, self._seconds, self._per_write = events, seconds, per_write
        self._spread = spread
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin to answer once the request is complete."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        _, _, length = self._buffer[:end].lower().partition(b"content-length:")
        if len(self._buffer) < end + 4 + int(length.split(b"\r\n")[0] or 0):
            return
        self._buffer = b""
        self._transport.write(HEAD)
        StampedStream.streams += 1
        # Multiples of the golden ratio fill an interval evenly, however many there are.
        wait = self._seconds * (StampedStream.streams * 0.618034 % 1 if self._spread else 1)
        self._loop.call_later(wait, self._send, 0, self._loop.time() + wait)

    def _send(self, sent: int, due: float) -> None:
        if self._transport.is_closing():
            return
        stamped = BEFORE + b"%019d" % time.monotonic_ns() + AFTER
        self._transport.write(stamped * self._per_write)
        sent += self._per_write
        if sent >= self._events:
            self._transport.write(END)
        else:
            due += self._seconds
            self._loop.call_at(due, self._send, sent, due)


async def main() -> None:
    """Serve on a free port and print the address."""
    events, seconds, per_write, *spread = sys.argv[1:]

    def make() -> StampedStream:
        return StampedStream(int(events), float(seconds), int(per_write), spread=bool(spread))

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - the output of this program
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
