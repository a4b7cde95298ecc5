"""Requests through OpenAI's SDK: its import, client, arguments and exceptions.

The SDK is imported only when an engine needs it. Versions 2 and 3 are supported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import signature
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from llmengine.transport.base import HTTPReply, HTTPStream
from llmengine.transport.decompression import ACCEPT_ENCODING, unpacked
from llmengine.transport.httpx_connections import close_with_surplus, no_cookies, send_or_close
from llmengine.transport.logs import scrub_logs
from llmengine.transport.mocks import unanswered
from llmengine.types.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    CallError,
    ConfigError,
    RefusedError,
    TruncatedError,
    UnexpectedResponseError,
)
from llmengine.types.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from llmengine.transport.answer_limits import AnswerLimits
    from llmengine.types.wire import JSONObject


_MIN_VERSION = 2


def load_sdk() -> Any:
    """The module ``openai``, with keys removed from its log.

    Raises ConfigError if the extra is not installed or the SDK's version is too old.
    """
    install = "pip install 'pytest-llmengine[openai]'"
    try:
        import openai  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        msg = f"backend 'openai' needs the openai SDK: {install}"
        raise ConfigError(msg) from error
    if int(openai.__version__.partition(".")[0]) < _MIN_VERSION:
        msg = f"backend 'openai' needs openai 2 or later, not {openai.__version__}: {install}"
        raise ConfigError(msg)
    scrub_logs()
    return openai


def http_client(sdk: Any) -> str:
    """The package through which the SDK sends: httpx for version 2, httpx2 for version 3."""
    roots: list[str] = [
        base.__module__.partition(".")[0] for base in sdk.DefaultAsyncHttpxClient.__mro__
    ]
    return next(root for root in roots if root.startswith("httpx"))


# Our error for a class of the SDK, by the name of the class or of a base class. So nothing is
# imported, and both versions work: 2.x uses httpx and 3.x httpx2, with the same names.
_ERROR_TYPES: dict[str, type[CallError]] = {
    # openai
    "APITimeoutError": APITimeoutError,
    "APIConnectionError": APIConnectionError,
    "APIResponseValidationError": UnexpectedResponseError,
    "ContentFilterFinishReasonError": RefusedError,
    "InvalidWebhookSignatureError": AuthenticationError,
    "LengthFinishReasonError": TruncatedError,
    "SubjectTokenProviderError": AuthenticationError,
    "WebSocketConnectionClosedError": APIConnectionError,
    "OpenAIError": UnexpectedResponseError,
    # httpx and httpx2, while the body of a stream is read
    "TimeoutException": APITimeoutError,
    "TransportError": APIConnectionError,
    "DecodingError": UnexpectedResponseError,
}


def reply_in(error: Exception) -> HTTPReply | None:
    """The server's response inside an APIStatusError; None for any other exception."""
    if not _is(error, "APIStatusError"):
        return None
    response: Any = error.response  # type: ignore[attr-defined]  # found by name
    return HTTPReply(response.status_code, response.headers, response.content)


def call_error(error: Exception, url: str) -> CallError | None:
    """The CallError for an exception of the SDK; None if the exception is not of the SDK."""
    for found in (error, error.__cause__):
        if isinstance(found, CallError):  # raised while we read the body; the SDK wraps it
            return found
        if found is not None and (refused := unanswered(found, url)) is not None:
            return refused
    kind = next((_ERROR_TYPES[name] for name in _ancestors(error) if name in _ERROR_TYPES), None)
    if kind is None:
        return None
    cause = error.__cause__ or error
    reason = str(cause) or type(cause).__name__
    if kind is APITimeoutError:
        # The SDK has no time limit except the one for the connection.
        return APITimeoutError(f"no connection to {url} in time", clock="connect")
    if kind is APIConnectionError:
        connected = not _is(cause, "ConnectError")
        what = "lost the connection to" if connected else "cannot connect to"
        return APIConnectionError(f"{what} {url}: {reason}", connected=connected)
    return kind(f"{type(error).__name__} of the openai SDK: {error}", status=_status(error))


def _is(error: BaseException, name: str) -> bool:
    return name in _ancestors(error)


def _ancestors(error: BaseException) -> list[str]:
    return [ancestor.__name__ for ancestor in type(error).__mro__]


def _status(error: Exception) -> int | None:
    return getattr(error, "status_code", None)


_NO_KEY = "EMPTY"  # the SDK requires a key


def sdk_headers(key: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """The configured headers and the key, with only one header named Authorization."""
    own_headers = {"Authorization": Secret(f"Bearer {key}")} if key else {}
    given_headers = {
        "Authorization" if k.lower() == "authorization" else k: v for k, v in given.items()
    }
    return own_headers | given_headers


def without_key(sdk: Any, headers: Mapping[str, str]) -> dict[str, object]:
    """Headers that make the SDK omit Authorization if the given headers do not have it."""
    return {} if "Authorization" in headers else {"Authorization": sdk.Omit()}


def make_client(
    sdk: Any, base_url: str, headers: Mapping[str, str], query: str, connections: Any
) -> Any:
    """An AsyncOpenAI that sends to `base_url` through `connections`, without retries.

    The client always gets an address and a key. Otherwise the SDK would read them from the
    environment, and those may belong to another server. The key that is sent is in `headers`.
    Every request has the query string `query`.
    """
    return sdk.AsyncOpenAI(
        base_url=base_url,
        api_key=_NO_KEY,
        default_headers=headers,
        default_query=dict(parse_qsl(query, keep_blank_values=True)),
        max_retries=0,  # the engine retries and counts every attempt
        http_client=connections,
    )


def make_connections(sdk: Any, limits: AnswerLimits) -> Any:
    """The connections of all these clients on one loop, without cookies and redirects.

    A redirect would send the key to another address. Answers are read within the limits.
    """

    class SDKConnections(sdk.DefaultAsyncHttpxClient):  # type: ignore[misc]  # found at run time
        async def send(self, request: Any, **options: Any) -> Any:
            return await send_or_close(super().send, request, **options)

    return SDKConnections(
        follow_redirects=False,
        cookies=no_cookies(),
        headers={"Accept-Encoding": ACCEPT_ENCODING},
        event_hooks={"response": [partial(_bound_body, limits)]},
    )


async def _bound_body(limits: AnswerLimits, response: Any) -> None:
    """Replace the body's stream by a bounded stream, before anything is read from it."""
    if response.is_stream_consumed:
        return  # the response of a mock, which already has its whole body
    encoding = response.headers.pop("Content-Encoding", "")
    kinds = type(response.stream).__mro__
    kind = next(kind for kind in kinds if kind.__name__ == "AsyncByteStream")
    response.stream = _bounded(kind)(response, encoding, limits)


@lru_cache(2)
def _bounded(kind: Any) -> Any:
    """The class of bounded streams for one version of the HTTP client (httpx or httpx2)."""

    class BoundedStream(kind):  # type: ignore[misc]  # found by name
        def __init__(self, response: Any, encoding: str, limits: AnswerLimits) -> None:
            self._source, self._extensions = response.stream, response.extensions
            self._pieces = unpacked(self._source, encoding, limits)

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._pieces

        async def aclose(self) -> None:
            await close_with_surplus(self._source, self._extensions)
            await self._source.aclose()

    return BoundedStream


# Arguments of the methods that are not fields of the body.
_SENDING_ARGUMENTS = frozenset({"extra_body", "extra_headers", "extra_query", "timeout"})


@dataclass(frozen=True, slots=True)
class SDKCall:
    """A method of a resource, by name, and its arguments."""

    method: str
    arguments: dict[str, object]


def sdk_call(resource: Any, body: JSONObject) -> SDKCall:
    """The call for a body: ``parse`` for a body with a JSON schema, else ``create``."""
    with_model = _with_model(body)
    if with_model is None:
        return create_call(resource, body)
    return SDKCall("parse", _arguments(resource.parse, with_model))


def create_call(resource: Any, body: JSONObject) -> SDKCall:
    """The call of ``create``, which accepts every body."""
    return SDKCall("create", _arguments(resource.create, body))


def _with_model(body: JSONObject) -> dict[str, object] | None:
    """The body with its schema as a model class; None if ``parse`` does not accept the body."""
    text = body.get("text")
    if isinstance(text, Mapping) and _is_schema(text.get("format")):  # responses
        rest = {key: value for key, value in text.items() if key != "format"}
        return {**body, "text": rest, "text_format": _model_of(text["format"])}
    wanted, tools = body.get("response_format"), body.get("tools") or ()
    strict = isinstance(tools, Sequence) and all(_is_strict(tool) for tool in tools)
    if isinstance(wanted, Mapping) and _is_schema(wanted) and strict:  # chat
        return {**body, "response_format": _model_of(wanted["json_schema"])}
    return None


def _is_schema(wanted: object) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"


def _is_strict(tool: object) -> bool:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return isinstance(function, Mapping) and function.get("strict") is True


def _model_of(wanted: Mapping[str, Any]) -> type[BaseModel]:
    return _model_with_schema(wanted["name"], to_json(wanted["schema"]))


@lru_cache(256)
def _model_with_schema(name: str, schema: bytes) -> type[BaseModel]:
    """A model class with exactly that schema, because the SDK takes a schema only as a class.

    The caller's own class cannot be used, for two reasons. It may not be a model. And this schema
    is rewritten for OpenAI's strict dialect, but the SDK's schema of the class would have keywords
    that OpenAI does not accept.
    """

    def model_json_schema(_: type[BaseModel]) -> Any:
        return from_json(schema)  # a new one each time, since the SDK changes it

    return type(name, (BaseModel,), {"model_json_schema": classmethod(model_json_schema)})


def _arguments(method: Callable[..., Any], body: JSONObject) -> dict[str, object]:
    """The body as arguments; fields that this version of the SDK lacks go into extra_body."""
    known = _fields(method.__func__)  # type: ignore[attr-defined]  # a bound method
    arguments = {name: value for name, value in body.items() if name in known}
    extra = {name: value for name, value in body.items() if name not in known}
    return {**arguments, "extra_body": extra} if extra else arguments


@lru_cache(8)
def _fields(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(signature(function).parameters) - _SENDING_ARGUMENTS - {"self"}


@dataclass(frozen=True, slots=True)
class SDKRequest:
    """An Outgoing that is sent by the SDK and read by this library's dialects.

    ``resource`` is ``client.responses`` or ``client.chat.completions``. ``headers`` take
    precedence over the client's. ``timeout`` is the SDK's Timeout with the time limit for the
    connection; ``total`` is in seconds.

    The answer is read as bytes, because the SDK's own objects lose information: an answer that
    does not fit the schema raises a ValidationError without the tokens it cost, a stream that is
    cut ends as if it were complete, and an error in a stream may not be noticed.
    """

    resource: Any
    body: JSONObject
    url: str
    headers: JSONObject
    timeout: Any
    total: float | None

    async def fetch(self) -> HTTPReply:
        """Send it and read the whole answer; ``parse`` is used if the body has a schema."""
        call = sdk_call(self.resource, self.body)
        method = getattr(self.resource.with_raw_response, call.method)
        try:
            async with asyncio.timeout(self.total):
                raw = await method(**call.arguments, **self._sending)
        except TimeoutError as error:
            msg = f"no whole answer from {self.url} within {self.total:g} s"
            raise APITimeoutError(msg, clock="total") from error
        except Exception as error:  # noqa: BLE001 - raised as a CallError
            if (refused := reply_in(error)) is not None:
                return refused
            self._raise_call_error(error)
        return HTTPReply(raw.status_code, raw.headers, raw.content)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[HTTPStream]:
        """Send it; the bytes arrive as the server sends them."""
        call = create_call(self.resource, self.body)
        async with AsyncExitStack() as stack:
            create = self.resource.with_streaming_response.create
            try:
                reply = await stack.enter_async_context(create(**call.arguments, **self._sending))
            except Exception as error:  # noqa: BLE001 - raised as a CallError
                refused = reply_in(error)
                if refused is None:
                    self._raise_call_error(error)
                stream = HTTPStream(refused.status, refused.headers, _once(refused.body))
            else:
                stream = HTTPStream(reply.status_code, reply.headers, self._chunks(reply))
            yield stream

    @property
    def _sending(self) -> dict[str, object]:
        return {"extra_headers": self.headers, "timeout": self.timeout}

    async def _chunks(self, reply: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in reply.iter_bytes():
                yield chunk
        except Exception as error:  # noqa: BLE001 - raised as a CallError
            self._raise_call_error(error)

    def _raise_call_error(self, error: Exception) -> NoReturn:
        translated = call_error(error, self.url)
        if translated is None or translated is error:
            raise error
        raise translated from error


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
