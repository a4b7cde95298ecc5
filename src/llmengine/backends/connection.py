"""The connection of one engine to its server, through which all of its requests are sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from llmengine.dialects.errors import failure
from llmengine.transport.base import HTTPRequest
from llmengine.transport.cold_start import PROBE_TIMEOUT, trouble_at
from llmengine.transport.limiter import EngineShare
from llmengine.transport.limiter_config import AUTO
from llmengine.transport.loop import transport_name
from llmengine.transport.policies import with_retries
from llmengine.transport.rates import RequestSize
from llmengine.types.errors import AuthenticationError, CallError, RateLimitError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from llmengine.config.address import Address
    from llmengine.config.settings import EngineSettings, Timeouts
    from llmengine.transport.base import HTTPReply, HTTPStream, Outgoing, Transport
    from llmengine.transport.limiter import Permit, Slots
    from llmengine.transport.loop import Background
    from llmengine.types.request import ChatRequest, Message

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
    of its queue. ``owner`` is the object whose requests these are; all connections of one owner
    have the same share of these limits. ``ready`` is awaited before each attempt, if it is given.
    ``queues_calls`` says that a call that ran out of time in the server's queue is sent again.
    """

    def __init__(  # noqa: PLR0913 - the one place where all are needed
        self,
        loop: Background,
        config: EngineSettings,
        address: Address,
        urls: URLs,
        *,
        owner: object,
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
        self._address = address
        self._chat_url = address.with_query(urls.chat)
        self._ready = ready
        self._in_process = in_process
        self._queues_calls = queues_calls
        self._transport_name = ""
        self._transport: Transport
        self._readiness = loop.readiness(urls.root)
        self._queue = loop.queue(urls.root, config.model)
        self.limiter = loop.permits.limiter(owner, urls.root, address.credential, config.limiter)
        self.chats = loop.permits.share(owner, ("chats", urls.root), self._share_of_chats)
        # What an attempt asks the server while it holds its permit must not wait for a permit of
        # another attempt. So questions have a share of their own, without slots.
        self._questions = loop.permits.share(
            owner, ("questions", urls.root), lambda: self._share(())
        )

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

    async def send(self, outgoing: HTTPRequest | Outgoing, permit: Permit) -> HTTPReply:
        """Send one request and return the answer, whatever its status."""
        try:
            if isinstance(outgoing, HTTPRequest):
                reply = await self.transport.fetch(outgoing)
            else:
                reply = await outgoing.fetch()
        finally:
            permit.end_request()
        self.chats.read_headers(reply.headers)
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
                self.limiter.pause.begin(self.urls.root, pause, self.loop.loop.time())
        if isinstance(error, AuthenticationError):
            error.advise(self._address.key_advice)
        return error

    # ---- when a request may be sent

    def size_of(self, request: ChatRequest) -> RequestSize | None:
        """The size of a request; None if it is not needed."""
        if not self.chats.counts_tokens:
            return None
        sampling = request.sampling
        answers = 1 if sampling.n is None else sampling.n
        most = None if sampling.max_tokens is None else answers * sampling.max_tokens
        return RequestSize(sum(map(_text_bytes, request.messages)), most)

    def retried(
        self,
        once: Callable[[Permit], Awaitable[T]],
        max_retries: int | None = None,
        size: RequestSize | None = None,
    ) -> Awaitable[T]:
        """The value of `once`, with as many retries as configured, each sent when it is allowed."""
        config = self.config
        limit = config.max_retries if max_retries is None else max_retries
        attempt = self.in_turn(once, queued=True, size=size)
        return with_retries(attempt, limit, config.retry_wait, self.patience)

    def in_turn(
        self,
        once: Callable[[Permit], Awaitable[T]],
        *,
        queued: bool = False,
        size: RequestSize | None = None,
    ) -> Callable[[], Awaitable[T]]:
        """Wrap the attempt `once`, so that it waits until it may be made.

        It waits until the engine is ready, its server is awake and the call has a permit. The wait
        is not part of the attempt, so it does not count against the attempt's time limits.
        ``queued`` is for chats, which the server may put into a queue of its own; ``size`` is
        needed only if the tokens per minute are limited.
        """
        attempt: Callable[[], Awaitable[T]]
        if queued:
            attempt = partial(
                self._queue.attempt, once, self.chats, size, self.patience, again=self._queues_calls
            )
        else:
            attempt = partial(self._asked, once)
        if self._ready is not None:
            attempt = partial(self._when_ready, self._ready, attempt)
        cold_start = self.config.cold_start
        if cold_start is None:
            return attempt
        url = self.urls.base + "/models"
        probe_request = self.request(url, None, min(PROBE_TIMEOUT, cold_start))
        probe = partial(trouble_at, self.transport, probe_request)
        return partial(self._readiness.attempt, attempt, probe, cold_start)

    async def _when_ready(self, ready: Ready, attempt: Callable[[], Awaitable[T]]) -> T:
        await ready(self.loop)
        return await attempt()

    async def _asked(self, once: Callable[[Permit], Awaitable[T]]) -> T:
        share = self._questions
        with share.try_acquire() or await share.acquire(patience=self.patience) as permit:
            return await once(permit)

    def _share_of_chats(self) -> EngineShare:
        slots: list[Slots] = [*self.limiter.slots, self._queue]
        if self.config.max_concurrency == AUTO:
            server = self.urls.root, self._address.credential, self.config.model
            slots.append(self.loop.permits.adaptive(server))
        return self._share(slots)

    def _share(self, slots: Iterable[Slots]) -> EngineShare:
        limits = self.config if self.config.limiter is None else self.config.limiter
        return EngineShare(
            self.loop.permits,
            self.limiter,
            slots,
            weight=self.config.weight,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            in_process=self._in_process,
        )


def _text_bytes(message: Message) -> int:
    """The length of the text of a message; images and other parts are not counted."""
    content = message.get("content")
    if isinstance(content, str):
        return len(content.encode())
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return sum(len(text.encode()) for text in texts if isinstance(text, str))
