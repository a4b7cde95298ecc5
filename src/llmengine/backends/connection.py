"""The connection of one engine to its server, through which all of its requests are sent."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from llmengine.dialects.errors import failure
from llmengine.transport.base import HTTPRequest
from llmengine.transport.cold_start import PROBE_TIMEOUT, trouble_at
from llmengine.transport.loop import transport_name
from llmengine.transport.policies import with_retries
from llmengine.types.errors import AuthenticationError, CallError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from llmengine.config.address import Address
    from llmengine.config.settings import EngineSettings, Timeouts
    from llmengine.transport.base import HTTPReply, HTTPStream, Outgoing, Transport
    from llmengine.transport.loop import Background

    Ready = Callable[[Background], Awaitable[None]]


T = TypeVar("T")


class URLs(NamedTuple):
    """The URLs of one server, without the endpoint's query string.

    ``chat`` is the URL that chats are sent to, ``base`` ends in ``/v1``, and ``root`` is the
    server's own address, by which engines of the same server share pauses and limits.
    """

    chat: str
    base: str
    root: str


class Connection:
    """Sends the requests of one engine to its server; used on the background loop only.

    All engines of a server share its pauses (HTTP 429), the wait until it is awake, and the limit
    of its queue. ``ready`` is awaited before each attempt, if it is given.
    ``queues_calls`` says that a call that ran out of time in the server's queue is sent again.
    """

    def __init__(  # noqa: PLR0913 - the one place where all are needed
        self,
        loop: Background,
        config: EngineSettings,
        address: Address,
        urls: URLs,
        *,
        clocks: Timeouts,
        ready: Ready | None = None,
        in_process: bool = False,
        queues_calls: bool = False,
    ) -> None:
        self.loop = loop
        self.config = config
        self.urls = urls
        self.clocks = clocks
        self.patience = clocks.patience
        self.process_slots = nullcontext() if in_process else loop.process_slots
        self._address = address
        self._chat_url = address.with_query(urls.chat)
        self._ready = ready
        self._in_process = in_process
        self._queues_calls = queues_calls
        self._transport_name = ""
        self._transport: Transport
        self._pace = loop.pace(urls.root, address.credential)
        self._turn = partial(self._pace.turn, config.requests_per_minute, self.patience)
        self._readiness = loop.readiness(urls.root)
        self._queue = loop.queue(urls.root, config.model)

    @property
    def transport(self) -> Transport:
        """The HTTP client that sends the requests, by the configured name.

        It is resolved each time, because a tool such as respx may replace httpx at any time.
        """
        name = transport_name(self.config.transport, self.urls.chat)
        if name != self._transport_name:
            self._transport_name, self._transport = name, self.loop.transport(name)
        return self._transport

    # ---- requests

    def chat(self, body: bytes) -> HTTPRequest:
        """A chat whose body is sent as it is, with the clocks of a call."""
        clocks = self.clocks
        return HTTPRequest(
            self._chat_url,
            self._address.headers,
            body,
            clocks.connect,
            clocks.total,
            limits=self.config.limits,
        )

    def request(self, url: str, body: bytes | None, total: float | None) -> HTTPRequest:
        """A GET of a URL of the server, or a POST of the body; ``total`` is in seconds."""
        return HTTPRequest(
            self._address.with_query(url),
            self._address.headers,
            body or b"",
            self.clocks.connect,
            total,
            method="GET" if body is None else "POST",
            limits=self.config.limits,
        )

    async def send(self, outgoing: HTTPRequest | Outgoing) -> HTTPReply:
        """Send one request and return the answer, whatever its status."""
        async with self.process_slots:
            if isinstance(outgoing, HTTPRequest):
                reply = await self.transport.fetch(outgoing)
            else:
                reply = await outgoing.fetch()
        if not self._in_process:
            self.config.limits.hold_values(reply.body)
        return reply

    def stream(self, outgoing: HTTPRequest | Outgoing) -> AbstractAsyncContextManager[HTTPStream]:
        """Send one request; the answer is read while it arrives, whatever its status."""
        if isinstance(outgoing, HTTPRequest):
            return self.transport.stream(outgoing)
        return outgoing.stream()

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """The error for a status; a 429 pauses all calls with the same address and key.

        If a 429 asks for a longer pause than this call itself would wait, no other call pauses. So
        one wrong answer cannot stop all calls for a day; the next call tries again.
        """
        error = failure(status, headers, body)
        if isinstance(error, RateLimitError) and error.retryable:
            # A 429 without Retry-After pauses the other calls too.
            pause = max(error.retry_after or 0.0, self.config.retry_wait)
            if pause <= self.patience:
                self._pace.cool(pause)
        if isinstance(error, AuthenticationError):
            error.advise(self._address.key_advice)
        return error

    # ---- when a request may be sent

    async def retried(self, once: Callable[[], Awaitable[T]], max_retries: int | None = None) -> T:
        """The value of `once`, with as many retries as configured, each sent when it is allowed."""
        config = self.config
        limit = config.max_retries if max_retries is None else max_retries
        attempt = self.in_turn(once, queued=True)
        return await with_retries(attempt, limit, config.retry_wait, self.patience)

    def in_turn(
        self, once: Callable[[], Awaitable[T]], *, queued: bool = False
    ) -> Callable[[], Awaitable[T]]:
        """Wrap the attempt `once`, so that it waits until it may be made.

        It waits until the engine is ready, its server is awake and the call has its turn. The wait
        is not part of the attempt, so it does not count against the attempt's time limits.
        ``queued`` is for chats, which the server may put into a queue of its own.
        """
        config = self.config
        attempt = partial(self._queued if queued else self._paced, once)
        if config.cold_start is None:
            return attempt
        url = self.urls.base + "/models"
        probe_request = self.request(url, None, min(PROBE_TIMEOUT, config.cold_start))
        probe = partial(trouble_at, self.transport, probe_request)
        return partial(self._readiness.attempt, attempt, probe, config.cold_start)

    async def _paced(self, once: Callable[[], Awaitable[T]]) -> T:
        if self._ready is not None:
            await self._ready(self.loop)
        await self._turn()
        return await once()

    async def _queued(self, once: Callable[[], Awaitable[T]]) -> T:
        if self._ready is not None:
            await self._ready(self.loop)
        return await self._queue.attempt(once, self._turn, again=self._queues_calls)
