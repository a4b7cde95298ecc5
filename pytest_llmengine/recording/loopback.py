"""A server on loopback in a thread of its own, so that the code under test may block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import h11

from pytest_llmengine.recording.client import Client, ClientGone

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pytest_llmengine.recording.wire import Request

    Answer = Callable[[Request, Client], Coroutine[None, None, None]]

HOST = "127.0.0.1"


class LoopbackServer:
    """Gives every request to `answer`, which runs on the server's own event loop.

    ``answer`` deals with its own errors; it is cancelled when its client closes the connection. An
    answer that it has not ended is cut: the connection is closed.
    ``port`` 0 takes a free one.
    """

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self._answer = answer
        self._port = port
        self._answering: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def root_url(self) -> str:
        """Where it listens: ``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Listen; raises OSError that names the port when it is in use."""
        self._loop = asyncio.new_event_loop()
        try:
            self._server = self._loop.run_until_complete(self._listen())
        except OSError:
            self._loop.close()
            raise
        self._port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"llmengine-{self._port}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def settle(self, seconds: float) -> None:
        """Wait for the answers under way, and cancel those that take longer than `seconds`."""
        asyncio.run_coroutine_threadsafe(self._settle(seconds), self._loop).result()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._connected, HOST, self._port)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot listen on {HOST}:{self._port} ({error.strerror}); "
                "give another port, or 0 for a free one",
            ) from error

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        client = Client(reader, writer)
        try:
            while (request := await client.request()) is not None:
                await self._answer_while_connected(request, client)
                if not client.next_request():
                    break
        except h11.RemoteProtocolError as error:
            await _refuse(client, error)
        except ConnectionError:
            pass  # the client is gone: nobody is left to tell
        except asyncio.CancelledError:
            client.abort()  # this server stops
        finally:
            client.close()
            self._connections.discard(task)

    async def _answer_while_connected(self, request: Request, client: Client) -> None:
        work = asyncio.create_task(self._answer(request, client))
        gone = asyncio.create_task(client.gone())
        self._answering.add(work)
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()  # does nothing to one that is done
            await asyncio.gather(work, gone, return_exceptions=True)
            self._answering.discard(work)
        if not work.cancelled():
            work.result()

    async def _settle(self, seconds: float) -> None:
        if self._answering:
            _, late = await asyncio.wait(set(self._answering), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _close(self) -> None:
        self._server.close()
        for task in set(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _refuse(client: Client, error: h11.RemoteProtocolError) -> None:
    if not client.answered:
        with contextlib.suppress(ClientGone):
            await client.error(400, "bad_http", f"this is not a request in HTTP/1.1: {error}")
