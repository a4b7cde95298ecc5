"""Sends a reply at the pace of the server, with its delays and broken off where a fault says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from llmengine.mock.behaviour import RawReply, ReceivedRequest
    from llmengine.mock.load import LoadEffect
    from llmengine.mock.script import Fault
    from llmengine.mock.service import Service

# Seconds after a stream's first event, so that a clock can tell the first event from the last.
_PAUSE_AFTER_FIRST = 0.005
# Answers of more tokens take time, so that a client can go away while the server writes them.
_TOKENS_AT_ONCE = 512
_SECONDS_PER_TOKEN = 0.004
# How often the server looks whether a client has gone away.
_LOOK_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """A reply and how it is sent.

    ``tokens`` is the number of tokens in a successful answer to a POST request; for any other
    reply it is None, and such a reply takes neither a slot nor the time of the load.
    """

    reply: RawReply
    fault: Fault
    effect: LoadEffect
    tokens: int | None = None


class ReplySender(Response):
    """Sends a reply, and drops the connection if the reply or the fault says so.

    An answer takes a slot until it is sent, or until the client has gone away. Errors take none.
    """

    def __init__(self, plan: ReplyPlan, service: Service, call: ReceivedRequest) -> None:
        super().__init__(status_code=plan.reply.status)
        self._plan = plan
        self._service = service
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply, as an ASGI application."""
        transport = scope["state"]["transport"]
        gone, behaviour = transport.is_closing, self._service.behaviour
        if self._plan.tokens is None:
            sent = await self._send(gone, send)
        else:
            sent = await self._send_in_a_slot(gone, send)
        if self._call.method == "POST":
            (behaviour.sent if sent else behaviour.left)(self._call)
        if self._plan.reply.cut or self._plan.fault.drop_keepalive:
            transport.close()
        if transport.is_closing():
            await _disconnected(receive)

    async def _send_in_a_slot(self, gone: Callable[[], bool], send: Send) -> bool:
        """Wait for a slot and send the reply; returns False if the client has gone away."""
        if not await self._service.slots.enter(gone):
            return False
        try:
            return await self._send(gone, send)
        finally:
            self._service.slots.leave()

    async def _send(self, gone: Callable[[], bool], send: Send) -> bool:
        """Send the reply; returns False if the client has gone away before its end."""
        reply, fault = self._plan.reply, self._plan.fault
        streamed = len(reply.chunks) > 1
        rule = "net.disconnect.stream" if streamed else "net.disconnect.whole"
        if rule in self._service.behaviour.without_rules:
            gone = _never
        await self._pause(self._seconds_before_first(), gone)
        if gone():
            return False
        if reply.cut and not reply.chunks:
            return True
        if fault.stall_after == 0:
            return await self._stall(gone)
        headers = [(k.encode(), v.encode()) for k, v in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        for index, chunk in enumerate(reply.chunks):
            if index:
                await self._pause_before(index, gone)
            if index == fault.stall_after:
                return await self._stall(gone)
            if gone():
                return False
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not reply.cut:
            await send({"type": "http.response.body", "body": b""})
        return True

    def _seconds_before_first(self) -> float:
        """The seconds before the first byte; a whole answer comes after its last token."""
        plan = self._plan
        if plan.tokens is None:
            return plan.fault.delay
        seconds = plan.fault.delay + plan.effect.seconds_to_first_token()
        if len(plan.reply.chunks) > 1:
            return seconds
        if plan.effect.is_paced:
            return seconds + plan.effect.seconds_per_token(plan.tokens)
        return seconds + max(0, plan.tokens - _TOKENS_AT_ONCE) * _SECONDS_PER_TOKEN

    async def _pause_before(self, index: int, gone: Callable[[], bool]) -> None:
        """Wait before a chunk of a stream, or of a body that a fault has split."""
        tokens = self._plan.tokens or 0
        seconds = self._plan.fault.chunk_delay
        if not seconds and tokens and self._plan.effect.is_paced:
            seconds = self._plan.effect.seconds_per_token()
        if seconds:
            await self._pause(seconds, gone)
        elif index == 1:
            await asyncio.sleep(_PAUSE_AFTER_FIRST)
        elif min(index, tokens) > _TOKENS_AT_ONCE:
            await asyncio.sleep(_SECONDS_PER_TOKEN)
        else:
            await asyncio.sleep(0)

    async def _pause(self, seconds: float, gone: Callable[[], bool]) -> None:
        """Wait so many seconds by the server's clock, or until the client has gone away."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleep = asyncio.ensure_future(self._service.clock.sleep(seconds))
        try:
            # A transport has no event to wait for.
            while not sleep.done() and not gone():
                await asyncio.wait({sleep}, timeout=_LOOK_EVERY)
        finally:
            sleep.cancel()

    @staticmethod
    async def _stall(gone: Callable[[], bool]) -> bool:
        """Send nothing more until the client has gone away."""
        while not gone():  # noqa: ASYNC110 - a transport has no event to wait for
            await asyncio.sleep(_LOOK_EVERY)
        return False


def _never() -> bool:
    """What a server sees that does not look whether the client has gone away."""
    return False


async def _disconnected(receive: Receive) -> None:
    """Wait until the protocol knows that the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass
