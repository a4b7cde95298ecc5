"""One request that the SDK sends: what it is told, and what comes back as bytes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from llmengine.openai_sdk.arguments import create_call, sdk_call
from llmengine.openai_sdk.errors import ours, reply_in
from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.types.errors import APITimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class Exchange:
    """An Outgoing that goes through the SDK: it sends, and our dialects read.

    ``resource`` is ``client.responses`` or ``client.chat.completions``; ``headers`` go over
    the client's, ``timeout`` is the SDK's with the connect clock in it, ``total`` is in seconds.

    The answer is taken as bytes, because what the SDK makes of it loses things: an answer that
    does not fit raises a bare ValidationError without the tokens it cost, a stream that is cut
    ends as if it were whole, and an error in a stream may pass unseen.
    """

    resource: Any
    body: Mapping[str, Any]
    url: str
    headers: Mapping[str, Any]
    timeout: Any
    total: float | None

    async def fetch(self) -> HTTPReply:
        """Send it and read the whole answer; ``parse`` says the schema where there is one."""
        call = sdk_call(self.resource, self.body)
        method = getattr(self.resource.with_raw_response, call.method)
        try:
            async with asyncio.timeout(self.total):
                raw = await method(**call.arguments, **self._sending)
        except TimeoutError as error:
            msg = f"no whole answer from {self.url} within {self.total:g} s"
            raise APITimeoutError(msg, clock="total") from error
        except Exception as error:  # noqa: BLE001 - raised as what it means
            if (refused := reply_in(error)) is not None:
                return refused
            self._fail(error)
        return HTTPReply(raw.status_code, raw.headers, raw.content)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[HTTPStream]:
        """Send it; the bytes come as the server sends them."""
        call = create_call(self.resource, self.body)
        async with AsyncExitStack() as stack:
            create = self.resource.with_streaming_response.create
            try:
                reply = await stack.enter_async_context(create(**call.arguments, **self._sending))
            except Exception as error:  # noqa: BLE001 - raised as what it means
                refused = reply_in(error)
                if refused is None:
                    self._fail(error)
                stream = HTTPStream(refused.status, refused.headers, _once(refused.body))
            else:
                stream = HTTPStream(reply.status_code, reply.headers, self._chunks(reply))
            yield stream

    @property
    def _sending(self) -> dict[str, Any]:
        return {"extra_headers": self.headers, "timeout": self.timeout}

    async def _chunks(self, reply: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in reply.iter_bytes():
                yield chunk
        except Exception as error:  # noqa: BLE001 - raised as what it means
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        meant = ours(error, self.url)
        if meant is None or meant is error:
            raise error
        raise meant from error


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
