"""Forwards to a real server and keeps what passes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import h11

from pytest_llmengine.recording.client import ClientGone
from pytest_llmengine.recording.misses import title
from pytest_llmengine.recording.provenance import Provenance
from pytest_llmengine.recording.proxy import Proxy
from pytest_llmengine.recording.take import Take, Unrecordable
from pytest_llmengine.recording.tape import RecordTape
from pytest_llmengine.recording.upstream import Upstream, UpstreamUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_llmengine.recording.client import Client
    from pytest_llmengine.recording.interaction import Cut
    from pytest_llmengine.recording.redaction import Redact
    from pytest_llmengine.recording.wire import Request, Wire

# Seconds to wait for the end of an answer that the client did not: many close after ``[DONE]``,
# a moment before the body ends, and that is a whole answer.
_GRACE = 0.2
_BROKEN = (OSError, h11.RemoteProtocolError)


class RecordServer(Proxy[RecordTape]):
    """A proxy to `upstream` (``http://host:port``, without ``/v1``) that fills cassettes.

    Every chunk is passed on as it comes. A cassette is written anew with what this run saw.
    `redact` takes further texts out of URLs and bodies before they are kept; keys are taken out
    without it. ``allowed_hosts`` and ``cors`` are as of the mock server. Raises ConfigError when
    `upstream` is not an address.
    """

    def __init__(  # noqa: PLR0913 - keyword options
        self,
        upstream: str,
        provenance: Provenance | None = None,
        *,
        redact: Redact | None = None,
        port: int = 0,
        allowed_hosts: Iterable[str] = (),
        cors: Iterable[str] = (),
    ) -> None:
        super().__init__(redact=redact, port=port, allowed_hosts=allowed_hosts, cors=cors)
        self._upstream = Upstream.parse(upstream)
        self._provenance = provenance or Provenance()

    def _open(self, path: Path) -> RecordTape:
        facts = self._provenance.completed(self._upstream.recorded_url)
        return RecordTape(path, facts, self.redaction)

    def _close(self, tape: RecordTape) -> None:
        tape.save()

    async def _answer(self, tape: RecordTape, request: Request, client: Client) -> None:
        place = tape.begin()
        asked = self.redaction.request(request, self._upstream.recorded_url)
        take = Take()
        try:
            wire = await self._upstream.open()
        except UpstreamUnreachable as error:
            tape.misses.append(f"{title(asked)}: {error}")
            await client.error(502, "upstream_unreachable", tape.misses[-1])
            return
        try:
            cut = await self._forward(request, wire, client, take)
        finally:
            wire.close()
        try:
            tape.keep(place, asked, take.answer(cut))
        except Unrecordable as error:
            tape.misses.append(f"{title(asked)}: {error}")

    async def _forward(
        self, request: Request, wire: Wire, client: Client, take: Take
    ) -> Cut | None:
        """Pass the request up and the answer down; says who closed before the end."""
        try:
            with contextlib.suppress(ConnectionError):  # it may have answered before it closed
                await self._upstream.ask(wire, request)
            await _pass_on(wire, client, take)
        except _BROKEN:
            return "upstream"
        except (ClientGone, asyncio.CancelledError):
            return None if await _ends_anyway(wire, take) else "client"
        return None


async def _pass_on(wire: Wire, client: Client, take: Take) -> None:
    while not take.complete:
        event = await wire.receive()
        take.add(event)
        if isinstance(event, h11.Response):
            await client.head(take.status, take.reason, take.headers)
        elif isinstance(event, h11.Data):
            await client.chunk(bytes(event.data))
    await client.end()


async def _ends_anyway(wire: Wire, take: Take) -> bool:
    """Whether the answer that the client left was at its end; then the rest is taken too."""
    if take.complete or take.head_ms is None:
        return take.complete
    rest: list[Any] = []

    async def read() -> None:
        while not rest or not isinstance(rest[-1], h11.EndOfMessage):
            rest.append(await wire.receive())

    try:
        await asyncio.wait_for(read(), _GRACE)
    except (TimeoutError, *_BROKEN):
        return False
    for event in rest:
        take.add(event)
    return True
