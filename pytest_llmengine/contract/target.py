"""A server under test, spoken to in raw HTTP: SDKs hide what deviates."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import httpx

from llmengine.engine.addresses import with_query
from llmengine.values.secrets import register, scrub
from pytest_llmengine.contract.outcomes import Fail, Unmeasured
from pytest_llmengine.contract.reply import Chunk, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class TargetUnreachable(Exception):  # noqa: N818 - reads as what happened
    """Nothing answers at the target's address: no verdict on any rule can be given."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came back, key scrubbed, for reports."""

    method: str
    path: str
    request_body: str
    status: int | None
    response_headers: Mapping[str, str]
    response_body: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A request on its way, `start` by the performance counter."""

    method: str
    path: str
    content: bytes | None
    start: float


@dataclass(slots=True)
class Target:
    """A base URL, a model and a key, with every exchange of the current check.

    ``base_url`` ends in ``/v1`` (or what the server uses for it). ``clock`` is False where
    arrival times mean nothing, as in a replay without recorded offsets. ``direct`` is False where
    a recorder or replayer stands between, whose connections are not the server's. Every request
    has a connection of its own, so a server that closes one early fails one rule and not others.
    ``timeout`` is in seconds, for the connection and for a whole answer. ``query`` is a query
    string that every request carries.
    """

    base_url: str
    model: str
    api_key: str | None = None
    clock: bool = True
    direct: bool = True
    timeout: float = 120.0
    query: str = ""
    _exchanges: list[Exchange] = field(default_factory=list)
    _client: httpx.Client = field(init=False)
    _timing: bool = field(default=False, init=False)
    _began: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.api_key:
            register(self.api_key)
        self._client = self._new_client(kept=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _new_client(self, *, kept: int) -> httpx.Client:
        return httpx.Client(
            headers={"Accept-Encoding": "identity"},  # bodies are read as they came
            limits=httpx.Limits(max_keepalive_connections=kept),
            timeout=self.timeout,
            trust_env=False,
            follow_redirects=False,
        )

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Send the requests of this block over one connection, as long as the server keeps it."""
        own = self._client
        self._client = self._new_client(kept=1)
        try:
            yield
        finally:
            self._client.close()
            self._client = own

    def begin(self, *, timing: bool = False) -> None:
        """Forget the exchanges of the last check."""
        self._exchanges = []
        self._timing = timing
        self._began = time.perf_counter()

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every exchange since `begin`."""
        return tuple(self._exchanges)

    def note(self, exchange: Exchange) -> None:
        """Add what a client of its own asked and got, its keys scrubbed here."""
        self._exchanges.append(
            replace(
                exchange,
                request_body=scrub(exchange.request_body),
                response_body=scrub(exchange.response_body),
            )
        )

    @property
    def seconds(self) -> float:
        """Time since `begin`."""
        return time.perf_counter() - self._began

    def need_clock(self) -> None:
        """End the check as unmeasured where arrival times mean nothing."""
        if not self.clock:
            raise Unmeasured("no arrival times in this mode; run it live to know")

    def need_direct(self) -> None:
        """End the check as unmeasured where the connection is not the server's own."""
        if not self.direct:
            raise Unmeasured("a recorder or replayer stands between; run it live to know")

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Reply:
        """GET a path under the base URL."""
        return self.send("GET", path, headers=headers)

    def post(
        self,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """POST JSON, or bytes as they are, to a path under the base URL."""
        content = json.dumps(body, ensure_ascii=False).encode() if raw is None else raw
        return self.send(
            "POST",
            path,
            content=content,
            headers={"Content-Type": "application/json", **(headers or {})},
        )

    def chat(self, prompt: str | list[dict[str, Any]] = "Say hello.", **params: Any) -> Reply:
        """POST a chat completion: temperature 0 and 16 tokens unless `params` say otherwise.

        A parameter set to ``...`` is left out of the body.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": 16,
        } | params
        return self.post("/chat/completions", {k: v for k, v in body.items() if v is not ...})

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        chunked: bool = False,
    ) -> Reply:
        """Send one request and read the body chunk by chunk.

        A header set to "" is not sent, so ``{"Authorization": ""}`` drops the key. ``chunked``
        sends the content with Transfer-Encoding instead of Content-Length.
        """
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        merged = {k: v for k, v in {**key, **(headers or {})}.items() if v}
        url = with_query(self.base_url.rstrip("/") + path, self.query)
        body = _pieces(content) if chunked else content
        attempt = _Attempt(method, path, content, time.perf_counter())
        try:
            with self._client.stream(method, url, content=body, headers=merged) as response:
                return self._read(attempt, response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise TargetUnreachable(f"nothing answers at {self.base_url}: {error}") from error
        except httpx.TimeoutException as error:
            self._keep(attempt, None)
            raise Fail(f"{method} {path}: no answer within {self.timeout:g} s") from error
        except httpx.TransportError as error:
            self._keep(attempt, None)
            raise Fail(f"{method} {path}: the server closed the connection: {error}") from error

    def _read(self, attempt: _Attempt, response: httpx.Response) -> Reply:
        """The reply with its whole body; one that stalls or never ends fails the check."""
        port = _local_port(response)  # no longer known once the body has ended
        chunks: list[Chunk] = []
        cut = stalled = False
        try:
            for data in response.iter_raw():
                chunks.append(Chunk(time.perf_counter() - attempt.start, data))
                if stalled := chunks[-1].at > self.timeout:
                    break
        except httpx.TimeoutException:
            stalled = True
        except httpx.TransportError:
            cut = True
        status, headers = response.status_code, response.headers
        reply = Reply(attempt.method, attempt.path, status, headers, tuple(chunks), cut, port)
        self._keep(attempt, reply)
        if stalled:
            raise Fail(
                f"{attempt.method} {attempt.path}: no end of the answer within {self.timeout:g} s; "
                f"{len(reply.body)} bytes came"
            )
        return reply

    def _keep(self, attempt: _Attempt, reply: Reply | None) -> None:
        self._exchanges.append(
            Exchange(
                attempt.method,
                scrub(attempt.path),
                scrub((attempt.content or b"").decode("utf-8", "replace")),
                reply.status if reply else None,
                {k: scrub(v) for k, v in reply.headers.items()} if reply else {},
                scrub(reply.text) if reply else "",
                time.perf_counter() - attempt.start,
            )
        )


def _pieces(content: bytes | None) -> Iterator[bytes]:
    data = content or b""
    middle = len(data) // 2
    yield data[:middle]
    yield data[middle:]


def _local_port(response: httpx.Response) -> int:
    return int(response.extensions["network_stream"].get_extra_info("client_addr")[1])
