"""The seam: what the library asks of an HTTP client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from llmengine.transport.answer_limits import DEFAULT_LIMITS, AnswerLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager


class Body(bytes):
    """A body, which is sent as it is and shown by its length: keys may be in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """One request; ``connect`` and ``total`` are its clocks in seconds, None for none.

    ``limits`` bounds what is read of the answer. Those headers that may be keys are `Secret`s,
    which their repr does not show.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    connect: float | None
    total: float | None
    method: Literal["POST", "GET"] = "POST"
    limits: AnswerLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", Body(self.body))


@dataclass(frozen=True, slots=True)
class HTTPReply:
    """A whole answer; its repr does not show the headers, since a server may set a cookie."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", Body(self.body))


@dataclass(frozen=True, slots=True)
class HTTPStream:
    """An answer whose body is still to come, in the pieces in which it arrives."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    chunks: AsyncIterator[bytes]


class Outgoing(Protocol):
    """One request, encoded and ready; each use sends it once.

    Failures are raised as CallErrors; a status is never a failure.
    """

    async def fetch(self) -> HTTPReply:
        """Send it and read the whole answer within the connect and total clocks."""
        ...

    def stream(self) -> AbstractAsyncContextManager[HTTPStream]:
        """Send it; only the connect clock is kept here, the others by the reader."""
        ...


class Transport(Protocol):
    """An HTTP client: failures are raised as CallErrors, and an answer is read within its limits.

    They are APIConnectionError, APITimeoutError, AnswerTooLargeError and UnexpectedResponseError.
    """

    async def fetch(self, request: HTTPRequest) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        ...

    def stream(self, request: HTTPRequest) -> AbstractAsyncContextManager[HTTPStream]:
        """Send the request; only the connect clock is kept here, the others by the reader."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


@dataclass(frozen=True, slots=True)
class Posted:
    """An Outgoing that goes over one of our transports."""

    transport: Transport
    request: HTTPRequest

    async def fetch(self) -> HTTPReply:
        """Send the request and read the whole answer within its clocks."""
        return await self.transport.fetch(self.request)

    def stream(self) -> AbstractAsyncContextManager[HTTPStream]:
        """Send the request and let the reader take the answer as it comes."""
        return self.transport.stream(self.request)
