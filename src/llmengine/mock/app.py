"""The ASGI application: one pipeline that every request goes through."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from llmengine.mock import rules
from llmengine.mock.admission import authorize, json_object, parsed
from llmengine.mock.behaviour import Call
from llmengine.mock.errors import ApiError, played
from llmengine.mock.operations import NO_METHOD, NO_PATH, OPERATIONS, check_names
from llmengine.mock.replies import Stream
from llmengine.mock.wire import NO_FAULT, failure, spoiled, success
from llmengine.types.secrets import secret_headers, secret_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from llmengine.mock.behaviour import Fault, RawReply
    from llmengine.mock.operations import Operation
    from llmengine.mock.replies import Answer
    from llmengine.mock.service import Service

_log = logging.getLogger("llmengine.mock")

# A clock must be able to see that a stream's first event leaves before its last is due.
_PAUSE_AFTER_FIRST = 0.005


def build(service: Service) -> Starlette:
    """The application that serves this service; ValueError for a name that is not there."""
    check_names(service.behaviour)
    routes = [
        Route(o.path, _endpoint(o, service), methods=[o.method], name=o.name) for o in OPERATIONS
    ]
    app = Starlette(routes=routes, exception_handlers=_handlers(service))
    app.router.redirect_slashes = False
    return app


def _endpoint(operation: Operation, service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _exchange(request, operation, service, request.path_params)

    return endpoint


def _handlers(service: Service) -> dict[Any, Any]:
    """Unknown paths and methods go through the same pipeline as all else."""

    async def no_path(request: Request, error: HTTPException) -> Response:
        return await _exchange(request, NO_PATH, service, {})

    async def no_method(request: Request, error: HTTPException) -> Response:
        allow = (error.headers or {})["Allow"]
        return await _exchange(request, NO_METHOD, service, {"allow": allow})

    return {404: no_path, 405: no_method}


async def _exchange(
    request: Request, operation: Operation, service: Service, params: dict[str, Any]
) -> Response:
    call = await _seen(request)
    service.calls.append(call)
    fault = NO_FAULT
    try:
        fault = service.next_fault() or NO_FAULT
        if fault.status is not None:
            raise played(fault.status, fault.retry_after)
        answer = _answer(call, operation, service, params)
        reply = success(answer, service.behaviour, call)
        streamed = isinstance(answer, Stream)
    except ApiError as error:
        reply, streamed = failure(error, service.behaviour, call), False
    except Exception as error:  # noqa: BLE001 - kept, and raised at the end
        reply, streamed = _crashed(error, call, service), False
    reply = service.behaviour.wire(reply, call)
    return _Sender(spoiled(reply, fault, streamed=streamed or reply.cut), fault)


async def _seen(request: Request) -> Call:
    body = await request.body()
    try:
        value = parsed(body)
    except ValueError:
        value = None
    url = request.url
    headers = secret_headers(request.headers)
    return Call(request.method, url.path, secret_query(url.query), headers, body, value)


def _answer(call: Call, operation: Operation, service: Service, params: dict[str, Any]) -> Answer:
    behaviour = service.behaviour
    if {operation.name, operation.path} & behaviour.disabled_routes:
        operation, params = NO_PATH, {}
    if operation not in {NO_PATH, NO_METHOD}:
        authorize(call, service)
    if operation.method != "POST":
        return operation.run({}, service, **params)
    body = json_object(call, service, any_type=operation.path.startswith("/api/"))
    if body is not None:
        rules.enforce(operation.path, body, service.limits, behaviour.without_rules)
    return operation.run(body or {}, service, **params)


def _crashed(error: Exception, call: Call, service: Service) -> RawReply:
    """A 500 for a defect of the mock or of a hook; `MockServer` raises it again at its end."""
    _log.error("the mock broke on %s %s", call.method, call.path, exc_info=error)
    service.crashes.append(error)
    message = f"The mock server itself broke: {type(error).__name__}: {error}"
    return failure(ApiError(message, status=500, type="server_error"), service.behaviour, call)


class _Sender(Response):
    """Sends a raw reply, at the fault's pace, and hangs up where the fault says so."""

    def __init__(self, reply: RawReply, fault: Fault) -> None:
        super().__init__(status_code=reply.status)
        self._reply = reply
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._fault.delay)
        if self._reply.chunks or not self._reply.cut:
            await self._send(send)
        if self._reply.cut or self._fault.drop_keepalive:
            await _hang_up(scope, receive)

    async def _send(self, send: Send) -> None:
        headers = [(k.encode(), v.encode()) for k, v in self._reply.headers.items()]
        await send(
            {"type": "http.response.start", "status": self._reply.status, "headers": headers}
        )
        for place, chunk in enumerate(self._reply.chunks):
            if place:
                await asyncio.sleep(self._gap(place))
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not self._reply.cut:
            await send({"type": "http.response.body", "body": b""})

    def _gap(self, place: int) -> float:
        return self._fault.chunk_delay or (_PAUSE_AFTER_FIRST if place == 1 else 0)


async def _hang_up(scope: Scope, receive: Receive) -> None:
    scope["state"]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass
