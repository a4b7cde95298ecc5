"""A server that answers every request with the same chat completion.

python benchmarks/minimal_server.py [BYTES [SECONDS]]

The text of the answer has that many bytes, 500 if none are given; it is sent after that many
seconds, 0.05 if none are given.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys

ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else []
SIZE = int(ARGUMENTS[0]) if ARGUMENTS else 500
LATENCY_S = float(ARGUMENTS[1]) if len(ARGUMENTS) > 1 else 0.05
BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": ("word " * (SIZE // 5 + 1))[:SIZE],
                    "refusal": None,
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 100, "total_tokens": 105},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    BODY
)
ANSWER = HEAD + BODY


class Minimal(asyncio.Protocol):
    """A protocol that only finds the end of each request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in the buffer."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            _, _, length = head.partition(b"content-length:")
            size = end + 4 + int(length.split(b"\r\n")[0] or 0)
            if len(self.buffer) < size:
                return
            self.buffer = self.buffer[size:]
            asyncio.get_running_loop().call_later(LATENCY_S, self._answer)

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main() -> None:
    """Serve on a free port and print the address."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Minimal, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
