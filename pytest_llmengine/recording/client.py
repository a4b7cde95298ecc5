"""The client at our end of a connection: what it asks, and what is sent back to it."""

from __future__ import annotations

import json
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from pytest_llmengine.recording.wire import (
    Headers,
    Request,
    Wire,
    end_to_end,
    is_chunked,
    raw_headers,
    text_headers,
)

if TYPE_CHECKING:
    import asyncio

ASKED_METHOD = "access-control-request-method"  # has it: a browser's question, not a request


class ClientGone(Exception):  # noqa: N818 - reads as what happened
    """The client closed its connection before the answer had ended."""


class Client:
    """One connection from a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wire = Wire(h11.SERVER, reader, writer)
        self._wants_body = True
        self.reader_origin: str | None = None  # of a web page that may read the answer

    async def request(self) -> Request | None:
        """The next request with its whole body; None when the client has closed."""
        head = await self._wire.receive()
        if not isinstance(head, h11.Request):
            return None
        self._wants_body = head.method != b"HEAD"
        body = b""
        while isinstance(event := await self._wire.receive(), h11.Data):
            body += event.data
        headers = text_headers(head.headers)
        method, target = head.method.decode("ascii"), head.target.decode("latin-1")
        return Request(method, target, end_to_end(headers), body, is_chunked(headers))

    @property
    def answered(self) -> bool:
        """Whether a status line was sent for the current request."""
        return self._wire.http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    async def head(self, status: int, reason: str, headers: Headers) -> None:
        """Send the status line and the headers, with today's date when they have none.

        Which web pages may read an answer is not for the recorded server to say, but for ours.
        """
        headers = tuple((k, v) for k, v in headers if not k.startswith("access-control-"))
        if self.reader_origin is not None:
            headers = (*headers, ("access-control-allow-origin", self.reader_origin))
        if not any(name == "date" for name, _ in headers):
            headers = (*headers, ("date", formatdate(usegmt=True)))
        await self._send(
            h11.Response(
                status_code=status,
                reason=reason.encode("latin-1", "replace"),
                headers=raw_headers(headers),
            )
        )

    async def chunk(self, data: bytes) -> None:
        """Send bytes as one chunk; a HEAD request gets none."""
        if self._wants_body:
            await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def error(self, status: int, code: str, message: str) -> None:
        """Answer with OpenAI's error envelope, and ask SDKs not to try again."""
        envelope = {"error": {"message": message, "type": code, "param": None, "code": code}}
        body = json.dumps(envelope, indent=1).encode()
        headers = (
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("x-should-retry", "false"),
        )
        await self.head(status, HTTPStatus(status).phrase, headers)
        await self.chunk(body)
        await self.end()

    async def permit(self, request: Request) -> None:
        """Answer a browser's question whether a page may send what it wants to."""
        asked = dict(request.headers)
        allowed = {
            "access-control-allow-origin": self.reader_origin or "null",
            "access-control-allow-methods": asked[ASKED_METHOD],
            "access-control-allow-headers": asked.get("access-control-request-headers", "*"),
        }
        headers = [*allowed.items(), ("content-length", "0")]
        await self._send(h11.Response(status_code=204, headers=raw_headers(tuple(headers))))
        await self.end()

    async def gone(self) -> None:
        """Return when the client has closed its connection."""
        await self._wire.closed_by_peer()

    def next_request(self) -> bool:
        """Make ready for another request on this connection; False when it cannot have one."""
        if self._wire.http.our_state is not h11.DONE or self._wire.http.their_state is not h11.DONE:
            return False
        self._wire.http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close the connection; an answer that has not ended is seen as cut."""
        self._wire.close()

    def abort(self) -> None:
        """Close the connection without sending what is still buffered."""
        self._wire.abort()

    async def _send(self, event: h11.Event) -> None:
        try:
            await self._wire.send(event)
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
