"""The target of a check: a server under test.

Requests are sent as raw HTTP, because SDKs hide deviations.
"""

from __future__ import annotations

import copy
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from math import inf
from typing import TYPE_CHECKING, Any, Self

import httpcore
import httpx

from llmengine.config.address import merged_headers, root_of, with_query
from llmengine.dialects.errors import retry_after
from llmengine.types.secrets import (
    Secret,
    learn_headers,
    mask_logins,
    register,
    scrub,
    secret_address,
    secret_headers,
)
from pytest_llmengine.contract.connections import Connections
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.outcomes import Fail, NoVerdict, Unmeasured
from pytest_llmengine.contract.reply import Chunk, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Limits for all answers to one check. A long list of models has 1 MB.
MAX_BYTES = 16 * 1024 * 1024
MAX_CHUNKS = 100_000


class TargetUnreachable(NoVerdict):
    """The target's address does not answer, so there cannot be a verdict on any rule."""


_JSON = "application/json"
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",  # bodies are read without decoding
    "User-Agent": "pytest-llmengine",
}


@dataclass(frozen=True, slots=True)
class HTTPExchange:
    """One request with its reply for reports, with the key scrubbed.

    ``request_headers`` are those by which the request differs from other ones; a header that is ""
    was not sent. ``root`` says that the path is under the server's root, and not the base URL.
    """

    method: str
    path: str
    request_body: str
    status: int | None
    response_headers: Mapping[str, str]
    response_body: str
    seconds: float
    request_headers: Mapping[str, str] = field(default_factory=dict)
    root: bool = False

    def __post_init__(self) -> None:
        if self.status is not None:
            # A plain number, because pytest-xdist cannot send an enum such as httpx.codes.
            object.__setattr__(self, "status", int(self.status))


@dataclass(frozen=True, slots=True)
class Reading:
    """How a client reads an answer.

    It closes the connection after so many ``seconds`` or ``chunks``, whichever comes first.
    ``after_chunk`` is called after each chunk, and the client reads on when it returns.
    """

    seconds: float = inf
    chunks: float = inf
    after_chunk: Callable[[], object] | None = None


_TO_THE_END = Reading()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A request that was sent; `start` and `deadline` are times on the monotonic clock."""

    method: str
    path: str
    content: bytes | None
    start: float
    deadline: float
    reading: Reading
    headers: Mapping[str, str]
    root: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def leaves_at(self) -> float:
        """When the client closes the connection, or gives up waiting for the answer."""
        return min(self.deadline, self.start + self.reading.seconds)

    @property
    def late(self) -> bool:
        """Whether the answer is late, so that the client did not leave because it wanted to."""
        return time.monotonic() >= self.deadline


@dataclass(slots=True)
class Target:
    """A server under test: base URL, model and key, and the exchanges of the current check.

    ``base_url`` ends in ``/v1`` or the server's equivalent. ``clock`` is False if arrival times
    have no meaning, as in a replay without recorded times. ``direct`` is False if there is a
    recorder or replayer in between, because its connections are not those of the server. Every
    request has its own connection, so a server that closes one too early breaks only one rule.
    ``limits`` apply to each answer, from the connection to the last byte, and to each check; the
    limit of the whole run is handled elsewhere. ``may_take`` is the number of seconds for the
    current check. At most 16 MiB are read for all answers of one check. ``query`` is a query string
    and ``headers`` are headers for every request. ``sleep`` waits for the seconds of a Retry-After.
    """

    base_url: str
    model: str
    api_key: str | None = None
    clock: bool = True
    direct: bool = True
    limits: Limits = field(default_factory=Limits)
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep
    may_take: float = field(default=inf, init=False)
    _exchanges: dict[int, HTTPExchange] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _connections: Connections = field(default_factory=Connections, init=False)
    _timing: bool = field(default=False, init=False)
    _began: float = field(default=0.0, init=False)
    _ends: float = field(default=inf, init=False)
    _bytes: int = field(default=0, init=False)
    _chunks: int = field(default=0, init=False)
    _sent: bool = field(default=False, init=False)
    _answered: bool = field(default=False, init=False)
    _hung: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.api_key:
            register(self.api_key)
            self.api_key = Secret(self.api_key)
        self.base_url = secret_address(self.base_url)
        learn_headers(self.headers)
        self.headers = secret_headers(self.headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def twin(self) -> Target:
        """A target for a check that runs beside others; the connections are shared."""
        twin = copy.copy(self)
        twin.begin()
        return twin

    @contextmanager
    def kept_alive(self, *, most: int = 1, receive_buffer: int | None = None) -> Iterator[None]:
        """Send the requests of this block over connections that are used again.

        At most so many connections are kept while they are idle. ``receive_buffer`` is the size of
        their receive buffer in bytes, so that a client that does not read soon stops the server.
        """
        own = self._connections
        self._connections = Connections(idle=most, receive_buffer=receive_buffer)
        try:
            yield
        finally:
            self._connections.close()
            self._connections = own

    def begin(self, *, timing: bool = False, seconds: float | None = None) -> None:
        """Begin a check, which may take `seconds`, by default the time in ``limits``."""
        self._exchanges = {}
        self._timing = timing
        self._sent = self._answered = False
        self._bytes = self._chunks = 0
        self._began = time.monotonic()
        self.may_take = self.limits.check if seconds is None else seconds
        self._ends = self._began + self.may_take

    @property
    def exchanges(self) -> tuple[HTTPExchange, ...]:
        """Every exchange since `begin` that is kept."""
        return tuple(self._exchanges.values())

    def keep_exchanges(self, replies: Iterable[Reply], *, most: int = 12) -> None:
        """Keep only so many exchanges of this check: those of `replies`, then the first others."""
        named = [reply.number for reply in replies if reply.number in self._exchanges]
        kept = sorted(islice(dict.fromkeys([*named, *sorted(self._exchanges)]), most))
        self._exchanges = {number: self._exchanges[number] for number in kept}

    def note(self, exchange: HTTPExchange) -> None:
        """Add an exchange of another client; its keys are scrubbed here."""
        self._sent = True
        self._answered = self._answered or exchange.status is not None
        self._exchanges[next(self._numbers)] = replace(
            exchange,
            request_body=scrub(exchange.request_body),
            response_body=scrub(exchange.response_body),
        )

    @property
    def seconds(self) -> float:
        """Time since `begin`."""
        return time.monotonic() - self._began

    @property
    def answered(self) -> bool | None:
        """Whether a request since `begin` got a whole answer; None if there was no request."""
        return self._answered if self._sent else None

    def expect_awake(self) -> None:
        """End the check without a verdict if the server still hangs after an earlier time-out.

        A request that is never answered may hold the server, and the rules after it are not the
        ones that are broken.
        """
        if not self._hung or not self.clock:
            return
        hung = self._hung[0]
        try:
            self.chat(max_tokens=1)
        except NoVerdict as late:
            raise NoVerdict(
                f"the server has not answered since {hung} was not answered in time ({late})"
            ) from None
        self._hung.clear()

    def need_clock(self) -> None:
        """End the check as unmeasured if arrival times have no meaning."""
        if not self.clock:
            raise Unmeasured("no arrival times in this mode; run it live to know")

    def need_direct(self) -> None:
        """End the check as unmeasured if the connections are not the server's own."""
        if not self.direct:
            raise Unmeasured("a recorder or replayer stands between; run it live to know")

    def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, root: bool = False
    ) -> Reply:
        """GET a path under the base URL, or under the server's root."""
        return self.send("GET", path, headers=headers, root=root)

    def post(  # noqa: PLR0913 - the parts of a request
        self,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        root: bool = False,
        patient: bool = True,
        reading: Reading = _TO_THE_END,
    ) -> Reply:
        """POST JSON, or raw bytes, to a path under the base URL, or under the server's root."""
        content = json.dumps(body, ensure_ascii=False).encode() if raw is None else raw
        return self.send(
            "POST",
            path,
            content=content,
            headers={"Content-Type": _JSON, **(headers or {})},
            root=root,
            patient=patient,
            reading=reading,
        )

    def chat(self, prompt: str | list[dict[str, Any]] = "Say hello.", **params: Any) -> Reply:
        """POST a chat completion: temperature 0 and 16 tokens unless `params` say otherwise.

        A parameter set to ``...`` is left out of the body.
        """
        return self.post("/chat/completions", self.chat_body(prompt, **params))

    def chat_body(self, prompt: str | list[dict[str, Any]], **params: Any) -> dict[str, Any]:
        """The body that `chat` sends."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": 16,
        } | params
        return {k: v for k, v in body.items() if v is not ...}

    def send(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        chunked: bool = False,
        root: bool = False,
        patient: bool = True,
        reading: Reading = _TO_THE_END,
    ) -> Reply:
        """Send one request and read the body chunk by chunk, to its end unless `reading` differs.

        A header set to "" is not sent, so ``{"Authorization": ""}`` drops the key. ``chunked``
        sends the content with Transfer-Encoding instead of Content-Length. After a 429 with a
        Retry-After that fits in the check's time, a ``patient`` request is sent once more.
        """
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        sent = merged_headers(_HEADERS, key, self.headers, headers or {})
        merged = secret_headers({k: v for k, v in sent.items() if v})
        base = root_of(self.base_url) if root else self.base_url.rstrip("/")
        url = with_query(base + path, self.query)
        own = {k: v for k, v in (headers or {}).items() if v != _JSON}

        def send_once() -> Reply:
            start = time.monotonic()
            deadline = min(start + self.limits.answer, self._ends)
            attempt = _Attempt(method, path, content, start, deadline, reading, own, root)
            return self._send(attempt, url, merged, chunked=chunked)

        reply = send_once()
        pause = _retry_after(reply) if patient else None
        if pause is None or time.monotonic() + pause >= self._ends:
            return reply
        self.sleep(pause)
        return send_once()

    def _send(
        self, attempt: _Attempt, url: str, headers: Mapping[str, str], *, chunked: bool
    ) -> Reply:
        content = _pieces(attempt.content) if chunked else attempt.content
        self._sent = True
        try:
            with self._connections.stream(
                attempt.method, url, content=content, headers=headers, deadline=attempt.leaves_at
            ) as response:
                return self._read(attempt, response)
        except httpcore.TimeoutException:
            number = self._keep(attempt, None)
            if attempt.late:
                raise self._late(attempt, "no answer") from None
            none = httpx.Headers()
            return Reply(attempt.method, attempt.path, 0, none, (), left=True, number=number)
        except (httpcore.ConnectError, httpcore.UnsupportedProtocol) as error:
            message = f"nothing answers at {mask_logins(self.base_url)}: {error}"
            raise TargetUnreachable(message) from None
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
            self._keep(attempt, None)
            raise Fail(f"{attempt.name}: the server closed the connection: {error}") from None

    def _read(self, attempt: _Attempt, response: httpcore.Response) -> Reply:
        """Read the whole body; raises NoVerdict if it is late, and Fail if it does not end."""
        port = _local_port(response)  # not available after the end of the body
        chunks: list[Chunk] = []
        cut = late = endless = left = False
        try:
            for data in response.iter_stream():
                chunks.append(Chunk(time.monotonic() - attempt.start, data))
                self._bytes += len(data)
                self._chunks += 1
                if endless := self._bytes > MAX_BYTES or self._chunks > MAX_CHUNKS:
                    break
                if left := len(chunks) >= attempt.reading.chunks:
                    break
                if attempt.reading.after_chunk:
                    attempt.reading.after_chunk()
        except httpcore.TimeoutException:
            late = attempt.late
            left = not late
        except (httpcore.NetworkError, httpcore.ProtocolError):
            cut = True
        headers = httpx.Headers(response.headers)
        status = response.status
        reply = Reply(attempt.method, attempt.path, status, headers, tuple(chunks), cut, port, left)
        reply = replace(reply, number=self._keep(attempt, reply))
        if late:
            raise self._late(attempt, "no end of the answer", f"; {len(reply.body)} bytes came")
        if endless:
            raise Fail(
                f"{attempt.name}: no end of the answer; {self._bytes} bytes in {self._chunks} "
                f"chunks came to this check, and {MAX_BYTES} and {MAX_CHUNKS} are the most"
            )
        self._answered = self._answered or not left
        return reply

    def _late(self, attempt: _Attempt, what: str, more: str = "") -> NoVerdict:
        """The NoVerdict for a slow answer; its message says which time limit was reached."""
        self._hung.append(attempt.name)
        if attempt.deadline < self._ends:
            return NoVerdict(f"{attempt.name}: {what} within {self.limits.answer:g} s{more}")
        return NoVerdict(
            f"{attempt.name}: {what} before the {self.may_take:.3g} s of the check were over{more}"
        )

    def _keep(self, attempt: _Attempt, reply: Reply | None) -> int:
        """Keep the exchange; returns its number."""
        number = next(self._numbers)
        self._exchanges[number] = HTTPExchange(
            attempt.method,
            scrub(attempt.path),
            scrub((attempt.content or b"").decode("utf-8", "replace")),
            reply.status if reply else None,
            {k: scrub(v) for k, v in reply.headers.items()} if reply else {},
            scrub(reply.text) if reply else "",
            time.monotonic() - attempt.start,
            {k: scrub(v) for k, v in attempt.headers.items()},
            attempt.root,
        )
        return number


_LONGEST_PAUSE = 60.0  # seconds


def _retry_after(reply: Reply) -> float | None:
    """The seconds to wait after a 429; None for other replies, and for more than a minute."""
    if reply.status != httpx.codes.TOO_MANY_REQUESTS:
        return None
    pause = retry_after(reply.headers)
    return pause if pause is not None and pause <= _LONGEST_PAUSE else None


def _pieces(content: bytes | None) -> Iterator[bytes]:
    data = content or b""
    middle = len(data) // 2
    yield data[:middle]
    yield data[middle:]


def _local_port(response: httpcore.Response) -> int:
    return int(response.extensions["network_stream"].get_extra_info("client_addr")[1])
