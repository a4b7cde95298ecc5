"""A server under test, spoken to in raw HTTP: SDKs hide what deviates."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

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


@dataclass(slots=True)
class Target:
    """A base URL, a model and a key, with every exchange of the current check.

    ``base_url`` ends in ``/v1`` (or what the server uses for it). ``clock`` is False where
    arrival times mean nothing, as in a replay without recorded offsets. ``direct`` is False where
    a recorder or replayer stands between, whose connections are not the server's.
    """

    base_url: str
    model: str
    api_key: str | None = None
    clock: bool = True
    direct: bool = True
    timeout: float = 120.0
    _exchanges: list[Exchange] = field(default_factory=list)
    _client: httpx.Client = field(init=False)
    _timing: bool = field(default=False, init=False)
    _began: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.api_key:
            register(self.api_key)
        self._client = httpx.Client(
            headers={"Accept-Encoding": "identity"},  # bodies are read as they came
            timeout=self.timeout,
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def begin(self, *, timing: bool = False) -> None:
        """Forget the exchanges of the last check."""
        self._exchanges = []
        self._timing = timing
        self._began = time.perf_counter()

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every exchange since `begin`."""
        return tuple(self._exchanges)

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
        url = self.base_url.rstrip("/") + path
        start = time.perf_counter()
        chunks: list[Chunk] = []
        cut = False
        try:
            with self._client.stream(
                method, url, content=_pieces(content) if chunked else content, headers=merged
            ) as response:
                port = _local_port(response)
                try:
                    for data in response.iter_raw():
                        chunks.append(Chunk(time.perf_counter() - start, data))  # noqa: PERF401
                except httpx.RemoteProtocolError:
                    cut = True
        except httpx.TimeoutException as error:
            self._keep(method, path, content, None, start)
            raise Fail(f"{method} {path}: no answer within {self.timeout:g} s") from error
        except httpx.RemoteProtocolError as error:
            self._keep(method, path, content, None, start)
            raise Fail(f"{method} {path}: the server closed the connection: {error}") from error
        except httpx.TransportError as error:
            raise TargetUnreachable(f"nothing answers at {self.base_url}: {error}") from error
        reply = Reply(method, path, response.status_code, response.headers, tuple(chunks), cut, port)
        self._keep(method, path, content, reply, start)
        return reply

    def _keep(
        self, method: str, path: str, content: bytes | None, reply: Reply | None, start: float
    ) -> None:
        self._exchanges.append(
            Exchange(
                method,
                path,
                scrub((content or b"").decode("utf-8", "replace")),
                reply.status if reply else None,
                dict(reply.headers) if reply else {},
                scrub(reply.text) if reply else "",
                time.perf_counter() - start,
            )
        )


def _pieces(content: bytes | None) -> Iterator[bytes]:
    data = content or b""
    middle = len(data) // 2
    yield data[:middle]
    yield data[middle:]


def _local_port(response: httpx.Response) -> int:
    return int(response.extensions["network_stream"].get_extra_info("client_addr")[1])
