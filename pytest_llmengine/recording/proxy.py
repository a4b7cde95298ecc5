"""The base of the recorder and the replayer: an address, and the cassette that is open."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from llmengine.transport.mocks import add_started, remove_started
from llmengine.types.hosts import AllowedClients
from llmengine.types.secrets import scrub
from pytest_llmengine.recording.cassette import Cassette
from pytest_llmengine.recording.config import RecordingConfig
from pytest_llmengine.recording.http import (
    PREFLIGHT_HEADER,
    ClientConnection,
    ClientDisconnected,
    LoopbackServer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Unpack

    from pytest_llmengine.recording.config import RecordingOptions
    from pytest_llmengine.recording.http import Request

CassetteT = TypeVar("CassetteT", bound=Cassette)

# How many seconds unfinished answers get when a cassette is closed. If one takes longer, its client
# has stopped reading without closing the connection.
_SETTLE_SECONDS = 1.0


class Proxy(ABC, Generic[CassetteT]):
    """A server on loopback for clients in any language.

    ``without_cassette`` describes the requests that came while no cassette was open.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
        **options: Unpack[RecordingOptions],
    ) -> None:
        self._config = RecordingConfig().extended(options)
        self._clients = AllowedClients.of(allowed_hosts, cors)
        self.without_cassette: list[str] = []
        self._cassette: CassetteT | None = None
        self._server = LoopbackServer(self._answer_request, port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen; raises OSError if the port is in use."""
        self._server.start()
        add_started(self.root_url)

    def stop(self) -> None:
        """Stop listening and close every connection."""
        remove_started(self.root_url)
        self._server.stop()

    @property
    def root_url(self) -> str:
        """The address for clients, without ``/v1``."""
        return self._server.root_url

    @property
    def strays(self) -> list[str]:
        """The old name of ``without_cassette``."""
        warnings.warn(
            "strays is deprecated; write without_cassette", DeprecationWarning, stacklevel=2
        )
        return self.without_cassette

    @contextmanager
    def cassette(
        self, path: Path | str, config: RecordingConfig | None = None
    ) -> Iterator[CassetteT]:
        """Use this cassette until the block ends; only one can be open at a time.

        `config` replaces the options of the server for this cassette.

        A recording is saved when the block ends. After an exception it is only saved if there is
        no earlier one, or with the option ``record_on_exception``; otherwise a note of the
        exception says where the new answers are. Ctrl-C and SystemExit do not change the file.
        """
        if self._cassette is not None:
            raise RuntimeError(f"{self._cassette.path} is still open; close it before {path}")
        cassette = self._cassette = self._open(Path(path), config or self._config)
        try:
            yield cassette
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            cassette.failed = True
            self._finish(cassette)
            if cassette.not_replaced:
                error.add_note(cassette.not_replaced)
            raise
        else:
            self._finish(cassette)
        finally:
            self._cassette = None

    def _finish(self, cassette: CassetteT) -> None:
        self._server.settle(_SETTLE_SECONDS)
        self._close(cassette)

    async def _answer_request(self, request: Request, client: ClientConnection) -> None:
        with suppress(ClientDisconnected):  # the client left on purpose
            if not await self._refuse_visitor(request, client):
                await self._answer_with_cassette(request, client)

    async def _answer_with_cassette(self, request: Request, client: ClientConnection) -> None:
        cassette = self._cassette
        title = f"{request.method} {scrub(request.target.partition('?')[0])}"
        if cassette is None:
            reason = f"{title} came while no cassette was open"
            self.without_cassette.append(reason)
            await client.error(501, "no_cassette", f"{reason}; open one around the call")
            return
        try:
            await self._answer(cassette, request, client)
        except ClientDisconnected:
            raise
        except Exception as error:  # noqa: BLE001 - functions of the project may raise anything
            reason = f"{title} was not handled: {type(error).__name__}: {error}"
            cassette.unhandled.append(reason)
            if not client.answered:
                await client.error(500, "recording_failed", reason)

    async def _refuse_visitor(self, request: Request, client: ClientConnection) -> bool:
        """Answer a request that does not belong to the cassette; False if the request does."""
        headers = dict(request.headers)
        refusal = self._clients.refusal(headers.get("host"))
        if refusal is not None:
            await client.error(403, "host_not_allowed", refusal)
            return True
        origin = headers.get("origin")
        client.reader_origin = origin if self._clients.may_read(origin) else None
        if client.reader_origin and request.method == "OPTIONS" and PREFLIGHT_HEADER in headers:
            await client.answer_preflight(request)
            return True
        return False

    @abstractmethod
    def _open(self, path: Path, config: RecordingConfig) -> CassetteT:
        """Open a cassette."""

    @abstractmethod
    def _close(self, cassette: CassetteT) -> None:
        """Finish a cassette after its last request."""

    @abstractmethod
    async def _answer(
        self, cassette: CassetteT, request: Request, client: ClientConnection
    ) -> None:
        """Answer one request with the open cassette."""
