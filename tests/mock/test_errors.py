"""Errors, in OpenAI's format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from conftest import Api

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
ROUTES = [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses"]


def _error(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    return error


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "mock",}',
        b'{"temperature": NaN}',
        b'{"temperature": 1e999}',
        b"\xff\xfe\x00",
        b'{"x": "\\ud83d"}',
        b"[" * 100_000,
        b"9" * 5000,
    ],
    ids=lambda b: repr(b[:24]),
)
def test_body_that_is_not_json(reference: Api, path: str, body: bytes) -> None:
    """A body that cannot be parsed is a 400 whose message says so."""
    error = _error(reference.http.post(path, content=body, headers=JSON), 400)

    assert "JSON" in error["message"]


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"3"])
def test_body_that_is_not_an_object(reference: Api, body: bytes) -> None:
    """JSON other than an object is a 400."""
    error = _error(reference.http.post(CHAT, content=body, headers=JSON), 400)

    assert "object" in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_content_type_must_be_json(reference: Api, kind: str | None) -> None:
    """Another content type, or none, is a 415."""
    headers = {"Content-Type": kind} if kind else {}

    _error(reference.http.post(CHAT, content=b"{}", headers=headers), 415)


def test_content_type_may_have_parameters(reference: Api) -> None:
    """A content type with a charset is accepted."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    response = reference.http.post(CHAT, content=b"{}", headers=headers)

    assert response.status_code == 400


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing", "/v1/models/", "/v1/chat"])
def test_unknown_path(reference: Api, path: str) -> None:
    """An unknown path is a 404 in JSON, and not a redirect."""
    _error(reference.http.get(path), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", CHAT), ("PUT", CHAT), ("POST", "/v1/models")])
def test_wrong_method(reference: Api, method: str, path: str) -> None:
    """A method that a path does not support is a 405 that names the supported one."""
    response = reference.http.request(method, path)

    _error(response, 405)
    assert response.headers["allow"]


def test_ollama_errors_are_strings(reference: Api) -> None:
    """On Ollama's paths an error is an object with one string."""
    assert reference.http.get("/api/nothing").json().keys() == {"error"}
    assert isinstance(reference.http.get("/api/chat").json()["error"], str)
    assert isinstance(reference.http.post("/api/chat", content=b"{").json()["error"], str)


def test_unknown_model(reference: Api) -> None:
    """A model that is not served is a 404 with OpenAI's code, on every route."""
    for path in ROUTES:
        error = _error(reference.post(path, model="nope"), 404)
        assert (error["code"], error["type"]) == ("model_not_found", "invalid_request_error")
    assert _error(reference.http.get("/v1/models/nope"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "w " * 150}]}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": "w"}], "max_tokens": 100}, "messages"),
        ("/v1/completions", {"prompt": "w " * 150}, "prompt"),
        ("/v1/completions", {"prompt": "w", "max_tokens": 100}, "prompt"),
        ("/v1/embeddings", {"input": "w " * 150}, "input"),
        ("/v1/responses", {"input": "w " * 150}, "input"),
    ],
)
def test_context_overflow(
    start: Callable[..., Api], path: str, body: dict[str, Any], param: str
) -> None:
    """A request that does not fit the context is a 400 with OpenAI's code and the numbers."""
    error = _error(start(context_length=100).post(path, **body), 400)

    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert "100 tokens" in error["message"]


def test_answer_ends_where_the_context_does(start: Callable[..., Api], reference: Api) -> None:
    """Without a limit the answer is cut at the end of the context; a longer prompt is refused."""
    prompt = reference.chat().json()["usage"]["prompt_tokens"]
    api = start(context_length=prompt + 5)
    body = api.chat().json()

    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"
    assert api.chat(max_tokens=5).status_code == 200
    assert api.chat(max_tokens=6).status_code == 400


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic abc", "secret-key", "Bearer wrong-key"]
)
def test_key_is_needed(start: Callable[..., Api], header: str | None) -> None:
    """No key, another scheme or another key is a 401 with OpenAI's code."""
    api = start(api_key="secret-key")
    headers = {} if header is None else {"Authorization": header}
    responses = [
        api.http.post(CHAT, json={}, headers=headers),
        api.http.get("/v1/models", headers=headers),
    ]

    for response in responses:
        error = _error(response, 401)
        assert error["code"] == "invalid_api_key"
        assert "secret-key" not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_key_lets_in_whatever_the_case_of_the_scheme(
    start: Callable[..., Api], scheme: str
) -> None:
    """The scheme's case does not matter."""
    api = start(api_key="secret-key")
    headers = {"Authorization": f"{scheme} secret-key"}

    assert api.http.get("/v1/models", headers=headers).status_code == 200


def test_unknown_path_needs_no_key(start: Callable[..., Api]) -> None:
    """An unknown path is a 404 also without a key."""
    _error(start(api_key="secret-key").http.get("/v1/nothing"), 404)


def test_every_answer_has_an_id_of_its_own(reference: Api) -> None:
    """Answers and errors have an x-request-id, which is unique."""
    responses = [reference.chat(), reference.chat([]), reference.http.get("/v1/nothing")]
    ids = {r.headers["x-request-id"] for r in responses}

    assert len(ids) == 3


def test_ids_are_never_given_twice(reference: Api) -> None:
    """Ids of answers and of calls are unique."""
    ids = {reference.chat(max_tokens=1).json()["id"] for _ in range(50)}

    assert len(ids) == 50
