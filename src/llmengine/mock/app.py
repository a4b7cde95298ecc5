"""The ASGI application of the mock server: its routes, and the handling of every request.

Before a route reads the fields of a body, the application checks the key, the content type and the
JSON of the request.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from llmengine.mock import batches, embeddings, files, messages, ollama, responses, rules, vllm
from llmengine.mock.behaviour import ReceivedRequest
from llmengine.mock.chat import chat_completion, delete_completion, retrieve_completion
from llmengine.mock.completions import text_completion
from llmengine.mock.embeddings import create_embeddings
from llmengine.mock.script import NO_FAULT
from llmengine.mock.sender import ReplyPlan, ReplySender
from llmengine.mock.wire import (
    ApiError,
    JSONAnswer,
    MockAnswer,
    StreamAnswer,
    error_reply,
    fault_error,
    success_reply,
    token_count,
    with_fault,
)
from llmengine.types.secrets import secret_headers, secret_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ExceptionHandler

    from llmengine.mock.behaviour import JSON, Behaviour, RawReply
    from llmengine.mock.service import Service


_log = logging.getLogger("llmengine.mock")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; ``run`` gets the body, the service and the parameters in the path.

    If the request has no JSON body, ``run`` gets the parameters of the query instead.
    """

    method: str
    path: str
    run: Callable[..., MockAnswer]
    has_body: bool = True

    @property
    def name(self) -> str:
        """The name in ``Behaviour.disabled_routes``, where a path alone means all its methods."""
        return f"{self.method} {self.path}"


def _health(body: JSON, service: Service) -> MockAnswer:
    return JSONAnswer({"status": "ok"})


def _version(body: JSON, service: Service) -> MockAnswer:
    return JSONAnswer({"version": "mock"})


OPERATIONS = (
    Operation("POST", "/v1/chat/completions", chat_completion),
    Operation("GET", "/v1/chat/completions/{completion_id}", retrieve_completion),
    Operation("DELETE", "/v1/chat/completions/{completion_id}", delete_completion),
    Operation("POST", "/v1/chat/completions/batch", vllm.chat_batch),
    Operation("POST", "/tokenize", vllm.tokenize),
    Operation("POST", "/detokenize", vllm.detokenize),
    Operation("POST", "/v1/completions", text_completion),
    Operation("POST", "/v1/embeddings", create_embeddings),
    Operation("POST", "/v1/responses", responses.create_response),
    Operation("POST", "/v1/responses/input_tokens", responses.count_input_tokens),
    Operation("GET", "/v1/responses/{response_id}", responses.retrieve_response),
    Operation("DELETE", "/v1/responses/{response_id}", responses.delete_response),
    Operation("GET", "/v1/responses/{response_id}/input_items", responses.list_input_items),
    Operation(
        "POST", "/v1/responses/{response_id}/cancel", responses.cancel_response, has_body=False
    ),
    Operation("POST", "/v1/conversations", responses.create_conversation),
    Operation("GET", "/v1/conversations/{conversation_id}", responses.retrieve_conversation),
    Operation("POST", "/v1/files", files.upload_file, has_body=False),
    Operation("GET", "/v1/files", files.list_files),
    Operation("GET", "/v1/files/{file_id}", files.retrieve_file),
    Operation("DELETE", "/v1/files/{file_id}", files.delete_file),
    Operation("GET", "/v1/files/{file_id}/content", files.read_content),
    Operation("POST", "/v1/batches", batches.create_batch),
    Operation("GET", "/v1/batches", batches.list_batches),
    Operation("GET", "/v1/batches/{batch_id}", batches.retrieve_batch),
    Operation("POST", "/v1/batches/{batch_id}/cancel", batches.cancel_batch, has_body=False),
    Operation("POST", "/v1/messages", messages.create_message),
    Operation("POST", "/v1/messages/count_tokens", messages.count_tokens),
    Operation("GET", "/v1/models", embeddings.list_models),
    Operation("GET", "/v1/models/{name:path}", embeddings.retrieve_model),
    Operation("GET", "/health", _health),
    Operation("GET", "/version", _version),
    Operation("GET", "/metrics", vllm.metrics),
    Operation("GET", "/", ollama.root),
    Operation("POST", "/api/chat", ollama.chat),
    Operation("POST", "/api/generate", ollama.generate),
    Operation("POST", "/api/embed", embeddings.ollama_embed),
    Operation("POST", "/api/embeddings", embeddings.ollama_embeddings),
    Operation("POST", "/api/show", ollama.show),
    Operation("POST", "/api/pull", ollama.pull),
    Operation("GET", "/api/tags", ollama.tags),
    Operation("GET", "/api/ps", ollama.running),
    Operation("GET", "/api/version", ollama.version),
)


def _check_names(behaviour: Behaviour) -> None:
    """Raise ValueError if a behaviour names a rule or a route that does not exist."""
    if unknown := behaviour.without_rules - set(rules.names()):
        listed = ", ".join(sorted(unknown))
        raise ValueError(f"no rule is called {listed}; llmengine.mock.rules.names() lists them")
    routes = {n for o in OPERATIONS for n in (o.path, o.name)}
    if unknown := behaviour.disabled_routes - routes:
        listed = ", ".join(sorted(unknown))
        raise ValueError(f"no route is called {listed}; there are {', '.join(sorted(routes))}")


def _no_path(body: JSON, service: Service) -> MockAnswer:
    if "err.not_found_path" in service.behaviour.without_rules:
        return JSONAnswer({})
    raise ApiError("Unknown request URL. Please check the path.", status=404, code="unknown_url")


def _no_method(body: JSON, service: Service, allow: str) -> MockAnswer:
    if "err.method" in service.behaviour.without_rules:
        return JSONAnswer({})
    message = f"Method not allowed on this path; it takes {allow}."
    raise ApiError(message, status=405, code="method_not_supported", headers={"allow": allow})


NO_PATH = Operation("*", "*", _no_path)
NO_METHOD = Operation("*", "*", _no_method)


def build(service: Service) -> Starlette:
    """Build the application; raises ValueError if the behaviour names an unknown rule or route."""
    _check_names(service.behaviour)
    routes = [
        Route(o.path, _endpoint(o, service), methods=[o.method], name=o.name) for o in OPERATIONS
    ]
    app = Starlette(routes=routes, exception_handlers=_error_handlers(service))
    app.router.redirect_slashes = False
    return app


def _endpoint(operation: Operation, service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await _respond(request, operation, service, request.path_params)

    return endpoint


def _error_handlers(service: Service) -> Mapping[int, ExceptionHandler]:
    """Handlers that treat requests for unknown paths and methods in the same way as all others."""

    async def no_path(request: Request, error: Exception) -> Response:
        return await _respond(request, NO_PATH, service, {})

    async def no_method(request: Request, error: Exception) -> Response:
        headers = error.headers if isinstance(error, HTTPException) else None
        return await _respond(request, NO_METHOD, service, {"allow": (headers or {})["Allow"]})

    return {404: no_path, 405: no_method}


async def _respond(
    request: Request, operation: Operation, service: Service, params: Mapping[str, str]
) -> Response:
    call = await _received(request)
    service.calls.record(call)
    plan = _planned_reply(call, operation, service, params)
    return ReplySender(plan, service, call)


def _planned_reply(
    call: ReceivedRequest, operation: Operation, service: Service, params: Mapping[str, str]
) -> ReplyPlan:
    """The reply to a request, with what disturbs it. Nothing here waits."""
    effect, fault, tokens = service.simulator.effect_on(call), NO_FAULT, None
    streamed = False
    try:
        service.admit(call)
        # A script's fault comes before a failure by chance.
        scripted = service.expectations.next_fault()
        if scripted is None and call.method == "POST":
            scripted = effect.status_fault
        fault = scripted or NO_FAULT
        if fault.status is not None:
            raise fault_error(fault.status, fault.retry_after)
        answer = _run_operation(call, operation, service, params)
        reply = success_reply(answer, service.behaviour, call)
        streamed = isinstance(answer, StreamAnswer)
        if call.method == "POST":
            tokens = token_count(answer)
            by_chance = effect.fault(reply) if scripted is None else fault
            fault = service.expectations.fault or by_chance
    except ApiError as error:
        reply, streamed = error_reply(error, service.behaviour, call), False
    except Exception as error:  # noqa: BLE001 - stored, and raised when the server ends
        reply, streamed = _crash_reply(error, call, service), False
    reply = service.behaviour.wire(reply, call)
    reply = with_fault(reply, fault, streamed=streamed or reply.cut)
    return ReplyPlan(reply, fault, effect, tokens)


async def _received(request: Request) -> ReceivedRequest:
    body = await request.body()
    try:
        value = _parse_json(body)
    except ValueError:
        value = None
    url = request.url
    headers = secret_headers(request.headers)
    query = secret_query(url.query)
    port = request.client.port if request.client else 0
    return ReceivedRequest(request.method, url.path, query, headers, body, value, port)


def _run_operation(
    call: ReceivedRequest, operation: Operation, service: Service, params: Mapping[str, str]
) -> MockAnswer:
    behaviour = service.behaviour
    service.received = call
    if {operation.name, operation.path} & behaviour.disabled_routes:
        operation, params = NO_PATH, {}
    if operation not in {NO_PATH, NO_METHOD}:
        _authorize(call, service)
    if operation.path.startswith("/v1/messages"):
        messages.check_version(call, service)
    if operation.method != "POST" or not operation.has_body:
        return operation.run(dict(parse_qsl(call.query)), service, **params)
    body = _json_object(call, service, any_type=operation.path.startswith("/api/"))
    if body is not None:
        rules.enforce(operation.path, body, service.limits, behaviour.without_rules)
    return operation.run(body or {}, service, **params)


def _crash_reply(error: Exception, call: ReceivedRequest, service: Service) -> RawReply:
    """A 500 for an error in the mock or in a hook; `MockServer` raises the error when it ends."""
    _log.error("the mock failed on %s %s", call.method, call.path, exc_info=error)
    service.crashes.append(error)
    message = f"The mock server itself failed: {type(error).__name__}: {error}"
    return error_reply(ApiError(message, status=500, type="server_error"), service.behaviour, call)


def _authorize(call: ReceivedRequest, service: Service) -> None:
    """Raise ApiError unless the request has the key; the case of the scheme is ignored."""
    without = service.behaviour.without_rules
    if service.key is None or _needs_no_key(call, service):
        return
    header = call.headers.get("authorization", "")
    if not header and call.path.startswith("/v1/messages"):
        header = f"Bearer {call.headers.get('x-api-key', '')}"
    scheme, _, given = header.partition(" ")
    given = given.strip()
    if scheme.lower() != "bearer" or not given:
        if "auth.missing" not in without:
            _refuse_key("You didn't provide an API key in an Authorization header of type Bearer.")
    elif given != service.key and "auth.bad" not in without:
        _refuse_key("Incorrect API key provided.")


def _needs_no_key(call: ReceivedRequest, service: Service) -> bool:
    if call.path.startswith("/v1/models"):
        return "auth.models_protected" in service.behaviour.without_rules
    return call.path in {"/health", "/version", "/metrics"}


def _refuse_key(message: str) -> NoReturn:
    raise ApiError(message, status=401, code="invalid_api_key")


def _json_object(call: ReceivedRequest, service: Service, *, any_type: bool) -> JSON | None:
    """A copy of the body's JSON object, after the behaviour's hook.

    The result is None if the body is not a JSON object and the rule against that is switched off.
    `any_type` accepts every content type, as Ollama does.
    """
    without = service.behaviour.without_rules
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any_type and kind != "application/json" and "err.wrong_content_type" not in without:
        message = f"Unsupported content type: '{kind}'. This API takes 'application/json'."
        raise ApiError(message, status=415, code="unsupported_content_type")
    if isinstance(call.json, dict):
        return service.behaviour.request(copy.deepcopy(call.json), call)
    rule, message = _body_problem(call.body)
    if rule in without:
        return None
    raise ApiError(message)


def _body_problem(body: bytes) -> tuple[str, str]:
    """The rule that a body which is not a JSON object breaks, and the message of the refusal."""
    try:
        _parse_json(body)
    except ValueError:
        message = "We could not parse the JSON body of your request. It must be valid JSON."
        return "err.malformed_json", message
    return "err.nonobject_body", "The JSON body of your request must be an object."


def _parse_json(body: bytes) -> object:
    """Parse a JSON body; raises ValueError for invalid JSON and for lone surrogates."""
    try:
        value: object = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        if rb"\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is too large")
    return value
