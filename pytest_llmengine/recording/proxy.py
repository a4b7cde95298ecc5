"""The base of the recorder and the replayer: an address, and the cassette that is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from llmengine.types.hosts import AllowedClients
from llmengine.types.secrets import scrub
from pytest_llmengine.recording.cassette import Tape
from pytest_llmengine.recording.http import ASKED_METHOD, Client, ClientGone, LoopbackServer
from pytest_llmengine.recording.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_llmengine.recording.http import Request
    from pytest_llmengine.recording.redaction import Redact

TapeT = TypeVar("TapeT", bound=Tape)

# How many seconds unfinished answers get when a cassette is closed. If one takes longer, its client
# has stopped reading without closing the connection.
_PATIENCE = 1.0


class Proxy(ABC, Generic[TapeT]):
    """A server on loopback for clients in any language.

    ``strays`` describes the requests that came while no cassette was open.
    """

    def __init__(
        self,
        *,
        redact: Redact | None,
        port: int,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
    ) -> None:
        self._clients = AllowedClients.of(allowed_hosts, cors)
        self.redaction = Redaction(redact)
        self.strays: list[str] = []
        self._tape: TapeT | None = None
        self._server = LoopbackServer(self._answer_or_say_why, port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen; raises OSError if the port is in use."""
        self._server.start()

    def stop(self) -> None:
        """Stop listening and close every connection."""
        self._server.stop()

    @property
    def root_url(self) -> str:
        """The address for clients, without ``/v1``."""
        return self._server.root_url

    @contextmanager
    def cassette(self, path: Path | str) -> Iterator[TapeT]:
        """Use this cassette until the block ends; only one can be open at a time.

        A recording is saved when the block ends. It is also saved after an exception, because a
        test that fails must also fail in the replay. Ctrl-C and SystemExit do not change the file.
        """
        if self._tape is not None:
            raise RuntimeError(f"{self._tape.path} is still open; close it before {path}")
        tape = self._tape = self._open(Path(path))
        try:
            yield tape
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            self._finish(tape)
            raise
        else:
            self._finish(tape)
        finally:
            self._tape = None

    def _finish(self, tape: TapeT) -> None:
        self._server.settle(_PATIENCE)
        self._close(tape)

    async def _answer_or_say_why(self, request: Request, client: Client) -> None:
        with suppress(ClientGone):  # the client left on purpose
            if not await self._turned_away(request, client):
                await self._answer_from_tape(request, client)

    async def _answer_from_tape(self, request: Request, client: Client) -> None:
        tape = self._tape
        asked = f"{request.method} {scrub(request.target.partition('?')[0])}"
        if tape is None:
            self.strays.append(f"{asked} came while no cassette was open")
            await client.error(501, "no_cassette", f"{self.strays[-1]}; open one around the call")
            return
        try:
            await self._answer(tape, request, client)
        except ClientGone:
            raise
        except Exception as error:  # noqa: BLE001 - a redaction hook may raise anything
            tape.misses.append(f"{asked} was not handled: {type(error).__name__}: {error}")
            if not client.answered:
                await client.error(500, "recording_failed", tape.misses[-1])

    async def _turned_away(self, request: Request, client: Client) -> bool:
        """Answer a request that does not belong to the cassette; False if the request does."""
        headers = dict(request.headers)
        refusal = self._clients.refusal(headers.get("host"))
        if refusal is not None:
            await client.error(403, "host_not_allowed", refusal)
            return True
        origin = headers.get("origin")
        client.reader_origin = origin if self._clients.may_read(origin) else None
        if client.reader_origin and request.method == "OPTIONS" and ASKED_METHOD in headers:
            await client.permit(request)
            return True
        return False

    @abstractmethod
    def _open(self, path: Path) -> TapeT:
        """Open a cassette."""

    @abstractmethod
    def _close(self, tape: TapeT) -> None:
        """Finish a tape after its last request."""

    @abstractmethod
    async def _answer(self, tape: TapeT, request: Request, client: Client) -> None:
        """Answer one request with the open tape."""
