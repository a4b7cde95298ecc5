"""The client of OpenAI's Batch API of one server: its files and its batches."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote as url_quote
from uuid import uuid4

from pydantic_core import to_json

from llmengine.batch.hosted_batch import read_hosted_batch, required_name
from llmengine.dialects.common import read_object
from llmengine.engine.sync import block_on, run
from llmengine.transport.loop import background
from llmengine.transport.policies import with_retries
from llmengine.types.errors import APIConnectionError, CallError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from llmengine.backends.connection import Connection
    from llmengine.batch.hosted_batch import HostedBatch
    from llmengine.engine.engine import Engine
    from llmengine.transport.base import HTTPReply, HTTPRequest
    from llmengine.transport.limiter import Permit

T = TypeVar("T")

# An upload of the largest file may take this long, whatever the engine's total clock says.
_UPLOAD_SECONDS = 600.0
# A download is given up, and begun again, if nothing arrives for this long.
_QUIET_SECONDS = 60.0
PAGE_SIZE = 100  # of the list of batches
_LONGEST_REFUSAL = 2**16
# vLLM answers 501 if its Batch API is not enabled.
_NO_ROUTE = frozenset({404, 405, 501})
_TOO_LARGE = 413
_SUCCESS = range(200, 300)
# Azure refuses a batch while its file is in one of these states. Other services write all kinds of
# words there, also for files that can be used.
_FILE_IN_PREPARATION = ("pending", "running")
_FILE_LOOKS = 60
_LONGEST_FILE_WAIT = 10.0


class BatchAPI:
    """The Batch API of an engine's server; each method blocks the caller's thread.

    The requests have the engine's address, key, headers, transport, retries and limits.
    """

    def __init__(self, engine: Engine) -> None:
        backend = engine.backend
        if backend.in_process:
            raise ConfigError(
                f"engine {engine.name!r} has no server of its own, and so no Batch API; leave out "
                "the option for hosted batches"
            )
        self._backend = backend
        self._loop = background()
        self._urls = backend.urls()  # not read on the loop, because this may start a server

    @property
    def server(self) -> str:
        """The server's address, without user, password and query string."""
        return str(self._urls.root)

    def upload(self, path: Path, name: str) -> str:
        """Upload an input file, and wait until a batch can use it; returns its id.

        Raises ConfigError if the server has no Batch API.
        """

        async def work(connection: Connection) -> HTTPReply:
            request = self._upload_request(connection, path, name)
            try:
                return await _retried(connection, partial(_fetch, connection, request))
            except CallError as error:
                if error.status == _TOO_LARGE:
                    error.advise(
                        f"the file has {len(request.body):,} bytes; raise the limit of the server "
                        "(or of the proxy before it), or give the lines in several smaller inputs"
                    )
                raise

        reply = self._routed("/files", work)
        return self._run(lambda connection: self._when_prepared(connection, reply))

    def create(
        self, file: str, url: str, metadata: Mapping[str, str], *, was_asked: bool
    ) -> HostedBatch:
        """Create the batch of an uploaded file, once.

        After a request whose outcome is unknown, and if `was_asked` says that there was one in an
        earlier run, the batch is looked for among the server's batches before it is created.
        """
        body = {
            "input_file_id": file,
            "endpoint": url,
            "completion_window": "24h",
            "metadata": metadata,
        }
        look_first = was_asked

        async def work(connection: Connection) -> HostedBatch:
            async def once() -> HostedBatch:
                nonlocal look_first
                if look_first:
                    found = await self._find(connection, file, metadata)
                    if found is not None:
                        return found
                look_first = True
                request = self._request(connection, "/batches", to_json(body))
                return _batch(await _fetch(connection, request))

            return await _retried(connection, once)

        return self._run(work) if was_asked else self._routed("/batches", work)

    def find(self, file: str, metadata: Mapping[str, str]) -> HostedBatch | None:
        """The batch of an uploaded file or with this metadata, if the server has one."""

        async def work(connection: Connection) -> HostedBatch | None:
            return await _retried(connection, lambda: self._find(connection, file, metadata))

        return self._run(work)

    def retrieve(self, batch: str) -> HostedBatch:
        """A batch in its present state."""
        return self._of_batch(f"/batches/{url_quote(batch, safe='')}", None)

    def cancel(self, batch: str) -> HostedBatch:
        """Ask the server to cancel a batch."""
        return self._of_batch(f"/batches/{url_quote(batch, safe='')}/cancel", b"{}")

    def download(self, file: str, path: Path) -> None:
        """Write the content of a file to the path; it may be larger than the engine's limits."""

        async def work(connection: Connection) -> None:
            request = self._request(connection, f"/files/{url_quote(file, safe='')}/content", None)
            request.total = None
            request.limits = replace(request.limits, wire_bytes=None, body_bytes=None)
            once = connection.in_turn(partial(_download, connection, request, path))
            await _retried(connection, once)

        self._run(work)

    def _of_batch(self, path: str, body: bytes | None) -> HostedBatch:
        async def work(connection: Connection) -> HostedBatch:
            request = self._request(connection, path, body)
            return _batch(await _retried(connection, partial(_fetch, connection, request)))

        return self._run(work)

    async def _find(
        self, connection: Connection, file: str, metadata: Mapping[str, str]
    ) -> HostedBatch | None:
        after = ""
        while True:
            request = self._request(connection, f"/batches?limit={PAGE_SIZE}{after}", None)
            reply = await _fetch(connection, request)
            page = read_object(reply.body)
            rows = page.get("data")
            found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            for row in found:
                # A proxy may show another id of the file, and a server may drop the metadata.
                if row.get("input_file_id") == file or row.get("metadata") == metadata:
                    return read_hosted_batch(row, reply.body)
            before, last = after, str(found[-1].get("id")) if found else ""
            after = f"&after={url_quote(last, safe='')}"
            if not found or not page.get("has_more") or after == before:
                return None

    async def _when_prepared(self, connection: Connection, reply: HTTPReply) -> str:
        """The id of an uploaded file, when the server has prepared it."""
        wait = connection.config.retry_wait
        for _ in range(_FILE_LOOKS):
            uploaded = read_object(reply.body)
            file = required_name(uploaded, "id", reply.body)
            if uploaded.get("status") not in _FILE_IN_PREPARATION:
                return file
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_FILE_WAIT)
            request = self._request(connection, f"/files/{url_quote(file, safe='')}", None)
            reply = await _retried(connection, partial(_fetch, connection, request))
        raise CallError(
            f"the uploaded file {file} is still {uploaded['status']!r} after {_FILE_LOOKS} looks, "
            "so no batch can be created for it; try again later"
        )

    def _upload_request(self, connection: Connection, path: Path, name: str) -> HTTPRequest:
        """The request that uploads an input file, as a ``multipart/form-data`` form."""
        boundary = uuid4().hex
        field = 'Content-Disposition: form-data; name="%s"'
        purpose = f"--{boundary}\r\n{field % 'purpose'}\r\n\r\nbatch\r\n"
        head = f'--{boundary}\r\n{field % "file"}; filename="{name}"\r\n'
        kind = "Content-Type: application/jsonl\r\n\r\n"
        start, end = (purpose + head + kind).encode(), f"\r\n--{boundary}--\r\n".encode()
        body = b"".join([start, path.read_bytes(), end])
        request = self._request(connection, "/files", body)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "content-type"}
        content_type = f"multipart/form-data; boundary={boundary}"
        request.headers = {**headers, "Content-Type": content_type}
        if request.total is not None:
            request.total = max(_UPLOAD_SECONDS, request.total)
        return request

    def _request(self, connection: Connection, path: str, body: bytes | None) -> HTTPRequest:
        return connection.request(self._urls.base + path, body, connection.config.timeout.total)

    def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def on_loop() -> T:
            return await work(self._backend.connect(self._loop, self._urls))

        return run(block_on(self._loop.submit(on_loop())))

    def _routed(self, route: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run the first request to a route; the error says if the server has no such route."""
        try:
            return self._run(work)
        except CallError as error:
            if error.status not in _NO_ROUTE or error.attempts > 1:
                raise
            raise ConfigError(
                f"{self.server} has no Batch API (POST /v1{route}: {error.message}); without "
                "--hosted, the requests are sent to it one by one"
            ) from None


async def _retried(connection: Connection, once: Callable[[], Awaitable[T]]) -> T:
    config = connection.config
    return await with_retries(once, config.max_retries, config.retry_wait, connection.patience)


async def _fetch(connection: Connection, request: HTTPRequest) -> HTTPReply:
    reply = await connection.in_turn(partial(connection.send, request))()
    if reply.status not in _SUCCESS:
        raise connection.refusal(reply.status, reply.headers, reply.body)
    return reply


async def _download(
    connection: Connection, request: HTTPRequest, path: Path, _permit: Permit
) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with (
            asyncio.timeout(_QUIET_SECONDS) as clock,
            connection.stream(request) as answer,
        ):
            if answer.status not in _SUCCESS:
                body = b""
                async for chunk in answer.chunks:
                    body += chunk
                    if len(body) > _LONGEST_REFUSAL:
                        break
                raise connection.refusal(answer.status, answer.headers, body)
            with path.open("wb") as file:
                async for chunk in answer.chunks:
                    clock.reschedule(loop.time() + _QUIET_SECONDS)
                    file.write(chunk)
    except TimeoutError:
        raise APIConnectionError(
            f"nothing arrived from {request.url} for {_QUIET_SECONDS:g} s"
        ) from None


def _batch(reply: HTTPReply) -> HostedBatch:
    return read_hosted_batch(read_object(reply.body), reply.body)
