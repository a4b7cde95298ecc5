"""A server on raw loopback sockets that plays a script byte by byte, and counts requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Self

from .wires import Asked, wire_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROMPT = re.compile(rb"ask-(\w+)-(\d+)")
_FLOOD_ENDS = 2**30  # a client that takes this much has no limit


class Act(Enum):
    """What a script does besides sending bytes."""

    RESET = auto()
    """Break the connection, as a process that is killed does."""
    CLOSE = auto()
    """End both directions in good order."""
    HALF_CLOSE = auto()
    """End the server's direction and go on reading until the client ends its own."""
    WAIT = auto()
    """Say nothing more until the client hangs up."""


@dataclass(frozen=True)
class Forever:
    """The same bytes again and again, until the client hangs up."""

    data: bytes
    every: float = 0.0


Step = bytes | Act | Forever
Script = list[Step]


def reply(
    asked: Asked,
    body: bytes | None = None,
    *headers: str,
    status: str = "200 OK",
    type: str | None = None,  # noqa: A002 - the header's own name
    framing: str = "length",
) -> bytes:
    """A whole answer; ``framing`` is "length", "chunked" or "close"."""
    body = asked.body if body is None else body
    return head(asked, *headers, status=status, type=type, framing=framing, length=len(body)) + (
        chunk(body) + b"0\r\n\r\n" if framing == "chunked" else body
    )


def head(
    asked: Asked,
    *headers: str,
    status: str = "200 OK",
    type: str | None = None,  # noqa: A002 - the header's own name
    framing: str = "length",
    length: int | None = None,
) -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/1.1 {status}"]
    media = asked.type if type is None else type
    lines += [f"Content-Type: {media}"] if media else []
    if framing == "length":
        lines.append(f"Content-Length: {len(asked.body) if length is None else length}")
    lines += {"chunked": ["Transfer-Encoding: chunked"], "close": ["Connection: close"]}.get(
        framing, []
    )
    return "".join(f"{line}\r\n" for line in [*lines, *headers, ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def true_answer(asked: Asked) -> Script:
    """The answer of a server without a fault."""
    return [reply(asked, framing="chunked" if asked.stream else "length")]


@dataclass
class FaultServer:
    """Plays `script` for the requests for which `hits` is true, and answers others well.

    If ``reads`` is false, the script is played as soon as a client connects. ``meanwhile`` is
    awaited once, in the middle of the first script.
    """

    script: Callable[[Asked], Script]
    hits: Callable[[str], bool]
    reads: bool = True
    meanwhile: Callable[[], Awaitable[None]] | None = None
    connections: int = 0
    open: int = 0
    busy: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    elsewhere: list[str] = field(default_factory=list)
    cookies: list[str] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=socket.socket)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._listener.setblocking(False)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(512)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        """Accept one connection.

        An asyncio.Server is not used, because it loses connections that it accepts while it is
        closed: they are then closed only by the garbage collector, in any later test.
        """
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # the client is gone already
        self.connections += 1
        self.open += 1
        task = asyncio.create_task(self._handle(sock))
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, sock))

    def _end(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()  # if the task was cancelled before it began
        self.open -= 1
        self._tasks.discard(task)

    async def _handle(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # the client hung up
            reader, writer = await asyncio.open_connection(sock=sock)
            try:
                await self._serve(reader, writer)
            finally:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.reads:
            empty = Asked(wire_of("/chat/completions"), stream=False, text="")  # type: ignore[arg-type]
            await self._play(self.script(empty), reader, writer)
            return
        while (request := await _read(reader)) is not None:
            path, body, cookie = request
            wire, prompt = wire_of(path), PROMPT.search(body)
            self.cookies += [cookie] if cookie else []
            if wire is None or prompt is None:  # a request for facts about the server or its models
                self.elsewhere.append(path)
                writer.write(_NOT_A_CHAT)
                continue
            name = prompt[0].decode()
            self.requests[name] += 1
            fields = json.loads(body)
            asked = Asked(wire, bool(fields.get("stream")), text_for(name), fields)
            script = self.script(asked) if self.hits(name) else true_answer(asked)
            if not await self._play(script, reader, writer, hit=self.hits(name)):
                return

    async def _play(
        self,
        script: Script,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        hit: bool = True,
    ) -> bool:
        """Play a script; return whether the connection can take another request."""
        self.busy += 1
        try:
            if hit and self.meanwhile is not None:
                meanwhile, self.meanwhile = self.meanwhile, None
                *before, last = _in_two(script)
                try:
                    for step in before:
                        await _do(step, reader, writer)
                finally:
                    await meanwhile()
                return await _do(last, reader, writer)
            ends = [await _do(step, reader, writer) for step in script]
            return ends[-1]
        finally:
            self.busy -= 1


_NOT_A_CHAT = (
    b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


def text_for(prompt: str) -> str:
    """The true answer to a prompt."""
    return f"the answer to {prompt}"


def _in_two(script: Script) -> Script:
    """The script as two steps or more; a single step is split before its last byte."""
    first = script[0]
    return [first[:-1], first[-1:]] if len(script) == 1 and isinstance(first, bytes) else script


async def _do(step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Do one step; return whether the connection can take another request."""
    if isinstance(step, bytes):
        writer.write(step)
        await writer.drain()
        return True
    if isinstance(step, Forever):
        await _flood(step, reader, writer)
    elif step is Act.RESET:
        linger = struct.pack("ii", 1, 0)  # so that closing sends RST
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    elif step is Act.CLOSE:
        writer.close()
        await writer.wait_closed()
    else:
        if step is Act.HALF_CLOSE:
            writer.write_eof()
        await _gone(reader)
    return False


async def _flood(step: Forever, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    gone = asyncio.ensure_future(_gone(reader))
    sent = 0
    try:
        while not gone.done() and sent < _FLOOD_ENDS:
            writer.write(step.data)
            sent += len(step.data)
            await writer.drain()
            await asyncio.wait([gone], timeout=step.every)
    finally:
        gone.cancel()


async def _gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


async def _read(reader: asyncio.StreamReader) -> tuple[str, bytes, str] | None:
    """The path, body and cookies of the next request, or None at the end."""
    first = await reader.readline()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first.decode("latin-1").split()[1], body, headers.get("cookie", "")
