"""Objects that hold a key, by name; the inner pytest runs import them too."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
from multidict import CIMultiDict

from llmengine import EngineConfig, LLMEngineError, SamplingParams, load_engines
from llmengine.config.address import EnvSource, Location
from llmengine.mock import ReceivedRequest
from llmengine.mock.service import Service
from llmengine.transport.base import HTTPReply, HTTPRequest, HTTPStream
from llmengine.types.request import ChatRequest
from llmengine.types.secrets import secret_headers
from pytest_llmengine.contract import Reply, Target
from pytest_llmengine.contract.reply import Chunk
from pytest_llmengine.recording.http import Request

if TYPE_CHECKING:
    from collections.abc import Callable

# From the environment, so that no source line of a traceback has the key in it.
VARIABLE = "TESTS_SHOWN_KEY"
_URL = "http://127.0.0.1:9/v1"


def key() -> str:
    """The key."""
    return os.environ[VARIABLE]


def config(**fields: Any) -> EngineConfig:
    """A configuration of an engine that is never called."""
    return EngineConfig.model_validate(
        {"backend": "openai_compatible", "model": "m", "endpoint": _URL} | fields
    )


def _engine() -> Any:
    return config(api_key=key(), headers={"X-My-Gateway": key()}).engine


def _request() -> HTTPRequest:
    return HTTPRequest(
        _engine().backend.url,
        _engine().backend.address.headers,
        f'{{"user": "{key()}"}}'.encode(),
        1,
        1,
    )


def _reply() -> HTTPReply:
    return HTTPReply(200, {"Set-Cookie": key()}, f"you are {key()}".encode())


async def _no_chunks() -> Any:
    yield b""


def _target() -> Target:
    with Target(f"http://me:{key()}@127.0.0.1:9/v1", "m", api_key=key()) as target:
        return target


def _error(make: Callable[[], Any]) -> Any:
    try:
        make()
    except (LLMEngineError, ValueError) as error:
        return error
    raise AssertionError("there is an error")


def _bad_file(text: str) -> Any:
    path = os.path.join(os.environ["TESTS_SHOWN_FOLDER"], "engines.yaml")  # noqa: PTH118
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - as short as it gets
        file.write(text)
    return _error(lambda: load_engines(path))


OBJECTS: dict[str, Callable[[], Any]] = {
    "config with a key": lambda: config(api_key=key()),
    "config with headers": lambda: config(
        headers={n: key() for n in ("Authorization", "X-API-Key", "api-key", "Cookie", "X-Mine")}
    ),
    "config with a password": lambda: config(endpoint=f"http://me:{key()}@127.0.0.1:9"),
    "config with a query": lambda: config(endpoint=f"{_URL}?subscription-key={key()}"),
    "config with a body": lambda: config(extra_body={"auth": [{"apiKey": key()}]}),
    "config with options": lambda: config(options={"client_secret": key()}),
    "copied config": lambda: config().model_copy(update={"headers": {"X-Mine": key()}}),
    "engine": _engine,
    "engine on the SDK": lambda: (
        config(backend="openai", api_key=key(), headers={"X-M": key()}).engine
    ),
    "engine's attributes": lambda: vars(_engine()),
    "engine's key": lambda: _engine().api_key,
    "backend": lambda: _engine().backend,
    "backend's attributes": lambda: vars(_engine().backend),
    "address": lambda: _engine().backend.address,
    "address's attributes": lambda: vars(_engine().backend.address),
    "engine's headers": lambda: _engine().backend.address.headers,
    "copied headers": lambda: {**_engine().backend.address.headers},
    "listed headers": lambda: list(_engine().backend.address.headers.items()),
    "headers in aiohttp": lambda: CIMultiDict(_engine().backend.address.headers),
    "endpoint": lambda: config(endpoint=f"http://me:{key()}@127.0.0.1:9").engine.backend.endpoint,
    "headers of a login": lambda: (
        config(
            endpoint=f"http://me:{key()}@127.0.0.1:9", api_key=None
        ).engine.backend.address.headers
    ),
    "place": lambda: Location(
        EnvSource("s", {"A_URL": f"http://a:{key()}@b"}).get("A_URL"),
        EnvSource("s", {"K_KEY": key()}).get("K_KEY"),
    ),
    "variable": lambda: EnvSource("s", {"A_API_KEY": key()}).get("A_API_KEY"),
    "chat request": lambda: ChatRequest(
        "m",
        "hi",
        (),
        SamplingParams(),
        extra_body=config(extra_body={"token": {"secret": key()}}).extra_body,
    ),
    "HTTP request": _request,
    "copied HTTP request": lambda: replace(_request(), method="GET"),
    "HTTP body": lambda: _request().body,
    "HTTP reply": _reply,
    "HTTP stream": lambda: HTTPStream(200, {"Set-Cookie": key()}, _no_chunks()),
    "mock's call": lambda: ReceivedRequest(
        "POST", "/", "", secret_headers({"authorization": f"Bearer {key()}"}), b""
    ),
    "mock's service": lambda: Service(key=key()),
    "contract's target": _target,
    "contract's reply": lambda: Reply(
        "GET", "/", 200, httpx.Headers({"set-cookie": key()}), (Chunk(0.0, key().encode()),)
    ),
    "recorded request": lambda: Request("GET", f"/?key={key()}", (("x-api-key", key()),)),
    "error of a field": lambda: _error(
        lambda: EngineConfig(
            backend="x", api_key=key(), headers={"X-M": key()}, extra_body={"secret": key()}
        )  # type: ignore[call-arg]
    ),
    "error of an address": lambda: _error(
        lambda: config(endpoint=f"ftp://me:{key()}@h").engine.backend.url
    ),
    "error of a port": lambda: _error(
        lambda: config(endpoint=f"http://me:{key()}@h:a b").engine.backend.url
    ),
    "error of YAML": lambda: _bad_file(f"- name: a\n  api_key: {key()}: x\n"),
    "error of YAML's alias": lambda: _bad_file(f"- api_key: *{key()}\n"),
    "error of YAML's tag": lambda: _bad_file(f"- api_key: !!int {key()}\n"),
    "error of an engine": lambda: _bad_file(
        f"- {{name: a, backend: b, key: 1, api_key: {key()}}}\n"
    ),
}
