"""The interface of an HTTP client: requests, replies and the protocols of a transport."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from llmengine.transport.answer_limits import DEFAULT_LIMITS, AnswerLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    # Takes a piece of a body; returns False if it cannot take the next one now.
    Sink = Callable[[bytes], bool]


class Body(bytes):
    """A body whose repr shows only its length, because the body may hold keys."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__


@dataclass(slots=True)  # not frozen, because a frozen one takes several times as long to create
class HTTPRequest:
    """One request; ``connect`` and ``total`` are its clocks in seconds, None for no clock.

    ``limits`` bounds how much of the answer is read. Headers that may hold keys are `Secret`
    values, so that the repr does not show them.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    connect: float | None
    total: float | None
    method: Literal["POST", "GET"] = "POST"
    limits: AnswerLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        self.body = Body(self.body)


@dataclass(slots=True)  # not frozen, for the same reason
class HTTPReply:
    """A whole answer; its repr does not show the headers, which may hold a cookie."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    def __post_init__(self) -> None:
        self.body = Body(self.body)


@dataclass(frozen=True, slots=True)
class HTTPStream:
    """An answer whose body is still to be read, in the pieces in which it arrives."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    chunks: AsyncIterator[bytes]


class PushedChunks(ABC):
    """The chunks of a body that can be passed on by the event loop, without waking a task."""

    __slots__ = ()

    @abstractmethod
    async def feed(self, sink: Sink) -> bool:
        """Do what the function `feed` does."""


async def feed(chunks: AsyncIterator[bytes], sink: Sink) -> bool:
    """Pass the chunks to `sink` as they arrive, until it returns False or the body ends.

    Returns whether the body has ended. If not, another call passes on the chunks that follow.
    """
    if isinstance(chunks, PushedChunks):
        return await chunks.feed(sink)
    async for chunk in chunks:
        if not sink(chunk):
            return False
    return True


class Outgoing(Protocol):
    """One request that is not sent by a Transport; each use sends it once.

    Failures are raised as CallErrors. An HTTP error status is not a failure here.
    """

    async def fetch(self) -> HTTPReply:
        """Send it and read the whole answer within the connect and total clocks."""
        ...

    def stream(self) -> AbstractAsyncContextManager[HTTPStream]:
        """Send it; only the connect clock is checked here, the reader checks the rest."""
        ...


class Transport(Protocol):
    """An HTTP client that reads each answer within the limits of its request.

    Failures are raised as APIConnectionError, APITimeoutError, AnswerTooLargeError or
    UnexpectedResponseError.
    """

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        ...

    def stream(self, request: HTTPRequest) -> AbstractAsyncContextManager[HTTPStream]:
        """Send the request; only the connect clock is checked here, the reader checks the rest."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
