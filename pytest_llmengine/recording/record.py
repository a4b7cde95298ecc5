"""The recorder: forwards requests to a real server and keeps the exchanges in a cassette."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import h11
import httpx

from llmengine.types.errors import ConfigError
from llmengine.types.hosts import is_loopback
from llmengine.types.secrets import learn_headers
from pytest_llmengine.recording.cassette import RecordedAnswer
from pytest_llmengine.recording.chunks import Timeline
from pytest_llmengine.recording.http import (
    ClientDisconnected,
    H11Connection,
    Headers,
    end_to_end,
    is_chunked,
    raw_headers,
    text_headers,
)
from pytest_llmengine.recording.matchers import title
from pytest_llmengine.recording.packed import check_writable
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.proxy import Proxy
from pytest_llmengine.recording.record_cassette import RecordCassette
from pytest_llmengine.recording.redaction import DECOMPRESSORS
from pytest_llmengine.recording.replay import MISS, ReplayCassette, play_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Unpack

    from pytest_llmengine.recording.cassette import CutBy
    from pytest_llmengine.recording.config import Clock, RecordingConfig, RecordingOptions
    from pytest_llmengine.recording.http import ClientConnection, Request


_ENCODING = "content-encoding"


class Unrecordable(Exception):  # noqa: N818 - reads as what happened
    """The answer cannot be redacted, so it must not be kept."""


@dataclass(slots=True)
class AnswerBuilder:
    """Builds a RecordedAnswer from h11 events; times are in ms since the builder was made."""

    clock: Clock
    began: float = field(init=False)
    status: int = 502
    reason: str = "No Answer"
    headers: Headers = ()
    head_ms: int | None = None
    complete: bool = False
    _chunked: bool = False
    _open: bool = False  # the last chunk is not complete
    _chunks: list[bytes] = field(default_factory=list)
    _at_ms: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.clock.time()

    def add(self, event: Any) -> None:
        """Add an event: the head, some bytes or the end; other events are ignored."""
        if isinstance(event, h11.Response):
            self._head(event)
        elif isinstance(event, h11.Data):
            self._data(event)
        elif isinstance(event, h11.EndOfMessage):
            self.complete = True

    def build(self, cut: CutBy | None) -> RecordedAnswer:
        """The answer without its Content-Encoding; raises Unrecordable."""
        sizes = tuple(len(chunk) for chunk in self._chunks)
        line = Timeline(self.head_ms, sizes, tuple(self._at_ms))
        body = b"".join(self._chunks)
        return _decoded(RecordedAnswer(self.status, self.reason, self.headers, body, line, cut))

    def _head(self, event: h11.Response) -> None:
        headers = text_headers(event.headers)
        self.status, self.reason = event.status_code, event.reason.decode("latin-1")
        self.headers = end_to_end(headers)
        self.head_ms = self._now()
        self._chunked = is_chunked(headers)

    def _data(self, event: h11.Data) -> None:
        if self._open:
            self._chunks[-1] += event.data
            self._at_ms[-1] = self._now()
        else:
            self._chunks.append(bytes(event.data))
            self._at_ms.append(self._now())
        self._open = self._chunked and not event.chunk_end

    def _now(self) -> int:
        return round((self.clock.time() - self.began) * 1000)


def _decoded(answer: RecordedAnswer) -> RecordedAnswer:
    """The decompressed answer, as one chunk, if the server compressed it against the request."""
    encoding = dict(answer.headers).get(_ENCODING, "identity").lower()
    if encoding == "identity" or not answer.body:
        return answer
    decode = DECOMPRESSORS.get(encoding)
    if decode is None or answer.cut:
        raise Unrecordable(
            f"the server sent Content-Encoding {encoding!r} although identity was requested; "
            "a compressed body cannot be redacted, so it was not recorded"
        )
    body = decode(answer.body)
    headers = tuple(
        (k, str(len(body)) if k == "content-length" else v)
        for k, v in answer.headers
        if k != _ENCODING
    )
    line = Timeline(answer.timeline.head_ms, (len(body),), answer.timeline.at_ms[-1:])
    return replace(answer, headers=headers, body=body, timeline=line)


_CONNECT_SECONDS = 10.0
# We set these: the address differs, and a compressed body could not be read or redacted.
_REPLACED = frozenset({"host", "accept-encoding", "content-length", "expect"})


class UpstreamUnreachable(Exception):  # noqa: N818 - reads as what happened
    """It was not possible to connect to the upstream server."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of the recorded server, ``http`` or ``https``, with a prefix for all paths."""

    scheme: str
    host: str
    port: int
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str, headers: Mapping[str, str] | None = None) -> Self:
        """Parse a URL such as ``http://127.0.0.1:8080``; raises ConfigError.

        ``headers`` are added to every request, in place of the client's of the same name.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise ConfigError(
                f"upstream is {parts.scheme}://{parts.hostname}; give http:// or https:// with a "
                "host, and send a key in the client's Authorization header, not in the URL"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        added = {name.lower(): value for name, value in (headers or {}).items()}
        learn_headers(added)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"), added)

    @property
    def origin(self) -> str:
        """Scheme, host and port; the default port of the scheme is left out."""
        default = {"http": 80, "https": 443}[self.scheme]
        return self._origin(None if self.port == default else self.port)

    @property
    def recorded_origin(self) -> str:
        """The origin for the cassette: without a loopback port, which differs in every run."""
        return self._origin(None) if is_loopback(self.host) else self.origin

    @property
    def recorded_url(self) -> str:
        """The address for the cassette."""
        return self.recorded_origin + self.prefix

    async def open(self) -> H11Connection:
        """Open a new connection, which cannot be stale; raises UpstreamUnreachable."""
        tls = _tls() if self.scheme == "https" else None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                streams = await asyncio.open_connection(self.host, self.port, ssl=tls)
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
            raise UpstreamUnreachable(
                f"the upstream server {self.origin} cannot be reached: {reason}"
            ) from error
        return H11Connection(h11.CLIENT, *streams)

    async def send(self, connection: H11Connection, request: Request) -> None:
        """Send a request with the client's own headers, including its keys, and those to add."""
        framing = ("content-length", str(len(request.body)))
        if request.chunked:
            framing = ("transfer-encoding", "chunked")
        replaced = _REPLACED | self.headers.keys()
        headers = [(k, v) for k, v in request.headers if k not in replaced]
        headers += self.headers.items()
        headers += [("host", urlsplit(self.origin).netloc), ("accept-encoding", "identity")]
        if request.body or request.chunked or request.method in {"POST", "PUT", "PATCH"}:
            headers.append(framing)
        await connection.send(
            h11.Request(
                method=request.method,
                target=self.prefix + request.target,
                headers=raw_headers(tuple(headers)),
            ),
            h11.Data(data=request.body),
            h11.EndOfMessage(),
        )

    def _origin(self, port: int | None) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{port}" if port else "")


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


# How many seconds to wait for the end of an answer after the client has closed. Many clients close
# after ``[DONE]``, shortly before the body ends, and such an answer is complete.
_GRACE = 0.2
_BROKEN = (OSError, h11.RemoteProtocolError)


class RecordServer(Proxy[RecordCassette]):
    """A proxy to `upstream` (``http://host:port``, without ``/v1``) that records cassettes.

    Every chunk is passed on as soon as it arrives. With the record mode "all", which is the
    default, the exchanges of this run replace those in the cassette. The options are those of
    RecordingOptions. Keys are always removed. `provenance` may be a function, which is called when
    a cassette is recorded that does not exist yet. ``allowed_hosts`` and ``cors`` are as in the
    mock server. ``headers`` are added to every request that is sent to `upstream`. Raises
    ConfigError if `upstream` is not an address, and InvalidFieldError if an option is wrong.
    """

    def __init__(  # noqa: PLR0913 - the options of a proxy
        self,
        upstream: str,
        provenance: Provenance | Callable[[], Provenance] | None = None,
        *,
        port: int = 0,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
        headers: Mapping[str, str] | None = None,
        **options: Unpack[RecordingOptions],
    ) -> None:
        super().__init__(port=port, allowed_hosts=allowed_hosts, cors=cors, **options)
        self._upstream = Upstream.parse(upstream, headers)
        self._provenance = provenance or Provenance()

    def _open(self, path: Path, config: RecordingConfig) -> RecordCassette:
        mode = config.record_mode or "all"
        if mode == "none" or (mode != "all" and path.exists()):
            earlier = ReplayCassette.load(path, config)
            earlier.check_age()
            return RecordCassette(
                path,
                earlier.provenance,
                config,
                unhandled=earlier.unhandled,
                earlier=earlier,
                adds=mode == "new_episodes",
            )
        check_writable(path)
        given = self._provenance
        facts = given() if callable(given) else given
        dated = replace(facts, recorded_at=facts.recorded_at or config.today().isoformat())
        return RecordCassette(path, dated.completed(self._upstream.recorded_url), config)

    def _close(self, cassette: RecordCassette) -> None:
        cassette.save()

    async def _answer(
        self, cassette: RecordCassette, request: Request, client: ClientConnection
    ) -> None:
        began = cassette.config.clock.time()
        if (answer := cassette.play(request)) is not None:
            await play_answer(answer, client, cassette.config, began)
        elif cassette.adds:
            await self._record(cassette, request, client)
        else:
            await client.error(*MISS, cassette.unhandled[-1])

    async def _record(
        self, cassette: RecordCassette, request: Request, client: ClientConnection
    ) -> None:
        place = cassette.begin()
        recorded = cassette.redaction.request(request, self._upstream.recorded_origin)
        builder = AnswerBuilder(cassette.config.clock)
        try:
            connection = await self._upstream.open()
        except UpstreamUnreachable as error:
            cassette.unhandled.append(f"{title(recorded)}: {error}")
            await client.error(502, "upstream_unreachable", cassette.unhandled[-1])
            return
        try:
            cut = await self._forward(request, connection, client, builder)
        finally:
            connection.close()
        try:
            cassette.put(place, recorded, builder.build(cut))
        except Unrecordable as error:
            cassette.unhandled.append(f"{title(recorded)}: {error}")

    async def _forward(
        self,
        request: Request,
        connection: H11Connection,
        client: ClientConnection,
        builder: AnswerBuilder,
    ) -> CutBy | None:
        """Forward the request and the answer; return who closed the connection before the end."""
        try:
            with contextlib.suppress(ConnectionError):  # there may be an answer already
                await self._upstream.send(connection, request)
            await _pass_on(connection, client, builder)
        except _BROKEN:
            return "upstream"
        except (ClientDisconnected, asyncio.CancelledError):
            return None if await _ends_soon(connection, builder) else "client"
        return None


async def _pass_on(
    connection: H11Connection, client: ClientConnection, builder: AnswerBuilder
) -> None:
    while not builder.complete:
        event = await connection.receive()
        builder.add(event)
        if isinstance(event, h11.Response):
            await client.head(builder.status, builder.reason, builder.headers)
        elif isinstance(event, h11.Data):
            await client.chunk(bytes(event.data))
    await client.end()


async def _ends_soon(connection: H11Connection, builder: AnswerBuilder) -> bool:
    """Whether the answer ends shortly after the client has left; the rest is kept then."""
    if builder.complete or builder.head_ms is None:
        return builder.complete
    rest: list[Any] = []

    async def read() -> None:
        while not rest or not isinstance(rest[-1], h11.EndOfMessage):
            rest.append(await connection.receive())

    try:
        await asyncio.wait_for(read(), _GRACE)
    except (TimeoutError, *_BROKEN):
        return False
    for event in rest:
        builder.add(event)
    return True
