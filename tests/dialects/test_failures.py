"""The error for each unsuccessful answer."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CallError,
    ContextLengthError,
    InternalServerError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    UnexpectedResponseError,
)
from llmengine.dialects.errors import failure
from llmengine.types import secrets

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED: dict[str, tuple[type[CallError], int, str]] = {
    "ollama/oai_chat_bad_model.json": (NotFoundError, 404, "'nope' not found"),
    "ollama/oai_chat_image_part.json": (BadRequestError, 400, "HTTP 400: Multimodal data provided"),
    "ollama/oai_chat_json_schema_invalid.json": (BadRequestError, 400, "conversion failed"),
    "ollama/oai_bad_host.json": (AuthenticationError, 403, "an empty body"),
    "ollama/oai_unknown_path.json": (NotFoundError, 404, "check the engine's endpoint"),
    "ollama/oai_wrong_method.json": (BadRequestError, 405, "check the engine's endpoint"),
    "ollama/oai_embeddings.json": (InternalServerError, 501, "does not support embeddings"),
    "ollama/native_chat_missing_model.json": (NotFoundError, 404, "check the engine's model"),
    "ollama/native_chat_think_true.json": (BadRequestError, 400, "does not support thinking"),
    "vllm/auth_missing_401.json": (AuthenticationError, 401, "Unauthorized (check the engine's"),
    "vllm/not_found.json": (NotFoundError, 404, "check the engine's endpoint"),
    "vllm/method_not_allowed.json": (BadRequestError, 405, "check the engine's endpoint"),
    "vllm/chat_bad_model_404.json": (NotFoundError, 404, "Valid aliases: smollm2"),
    "vllm/chat_bad_temperature_400.json": (BadRequestError, 400, "must be non-negative"),
    "vllm/chat_invalid_json_400.json": (BadRequestError, 400, "JSON decode error"),
    "vllm/chat_max_tokens_too_big_400.json": (ContextLengthError, 400, "max_model_len=2048"),
}


@pytest.mark.parametrize(("name", "expected"), RECORDED.items(), ids=list(RECORDED))
def test_recorded_errors(
    name: str, expected: tuple[type[CallError], int, str], sample: Callable[[str], Any]
) -> None:
    """An answer of a real server becomes the right error, with its status and message."""
    kind, status, words = expected
    answer = sample(name)
    error = failure(answer.status, {}, answer.body)
    assert type(error) is kind
    assert error.status == answer.status == status
    assert words in str(error)


def _openai(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None, **fields}}


_TOO_LONG = "request (12010 tokens) exceeds the available context size (4096 tokens)"
_LLAMACPP = {"error": {"code": 400, "message": _TOO_LONG, "type": "exceed_context_size_error"}}
TOO_LONG: dict[str, tuple[int, Any]] = {
    "openai": (400, _openai("too long", code="context_length_exceeded")),
    "vllm": (400, _openai("This model's maximum context length is 2048 tokens. However, ...")),
    "vllm completions": (400, {"error": "the prompt exceeds this model's maximum context length"}),
    "llama.cpp": (400, _LLAMACPP),
    "llama.cpp with 500": (500, _LLAMACPP),
    "ollama over llama.cpp": (400, _openai(json.dumps(_LLAMACPP), type="invalid_request_error")),
    "ollama native over llama.cpp": (400, {"error": json.dumps(_LLAMACPP)}),
    "sglang": (
        400,
        {
            "object": "error",
            "message": "The input (9 tokens) is longer than the model's context length (8 tokens).",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    "anthropic": (400, _openai("prompt is too long: 9 tokens > 8 maximum")),
    "llama.cpp's words alone": (400, {"error": _TOO_LONG}),
    "413": (413, _openai("input is larger than the context window")),
    "ollama": (400, {"error": "prompt too long; exceeded max context length by 12 tokens"}),
    "ollama's 500": (500, {"error": "the input length exceeds the context length"}),
}


@pytest.mark.parametrize(("status", "body"), TOO_LONG.values(), ids=list(TOO_LONG))
def test_a_prompt_that_is_too_long(status: int, body: Any) -> None:
    """Each server has its own message for it; none is retried."""
    error = failure(status, {}, json.dumps(body).encode())
    assert type(error) is ContextLengthError
    assert not error.retryable


def test_a_nested_document_is_read_to_its_message() -> None:
    """Ollama sends the JSON of its runner as text: the error has the message in it."""
    error = failure(400, {}, json.dumps(_openai(json.dumps(_LLAMACPP))).encode())
    assert str(error) == f"HTTP 400: {_TOO_LONG}"
    assert (error.type, error.code) == ("exceed_context_size_error", "400")


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, BadRequestError, False),
        (401, AuthenticationError, False),
        (402, QuotaError, False),
        (403, AuthenticationError, False),
        (404, NotFoundError, False),
        (405, BadRequestError, False),
        (408, APITimeoutError, True),
        (409, BadRequestError, False),
        (413, BadRequestError, False),
        (415, BadRequestError, False),
        (418, BadRequestError, False),
        (422, BadRequestError, False),
        (429, RateLimitError, True),
        (500, InternalServerError, True),
        (501, InternalServerError, False),
        (503, InternalServerError, True),
        (524, InternalServerError, True),
        (204, UnexpectedResponseError, False),
        (302, UnexpectedResponseError, False),
    ],
)
def test_the_status_decides_where_words_do_not(
    status: int, kind: type[CallError], retryable: bool
) -> None:
    """Each status has its class, and only a failure that may pass is retryable."""
    error = failure(status, {}, b"")
    assert type(error) is kind
    assert error.retryable is retryable
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("code", ["insufficient_quota", "billing_hard_limit_reached"])
@pytest.mark.parametrize("field", ["code", "type"])
def test_an_empty_account_is_not_a_rate_limit(field: str, code: str) -> None:
    """A 429 that does not pass is known by its code or type."""
    error = failure(429, {}, json.dumps(_openai("no credit", **{field: code})).encode())
    assert type(error) is QuotaError
    assert not error.retryable


def test_a_rate_limit_that_speaks_of_billing_is_still_one() -> None:
    """OpenAI's rate limit error links to its billing page."""
    message = "Rate limit reached. Add a payment method at https://example.test/billing"
    error = failure(429, {}, json.dumps(_openai(message, code="rate_limit_exceeded")).encode())
    assert type(error) is RateLimitError


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"detail": "Not allowed"}', "Not allowed"),
        (
            b'{"detail": [{"loc": ["body", "n"], "msg": "too small"}, {"msg": "bad"}]}',
            "body.n: too small; bad",
        ),
        (b'{"error": "boom", "error_type": "overloaded"}', "boom"),
        (b'{"message": "flat", "code": 400}', "flat"),
        (b"<html><head><title>\n502 Bad\nGateway</title>", "an HTML page titled"),
        (b"<!doctype html><p>x", "an HTML page"),
        (b"plain words\n", "plain words"),
        (b'"a string"', "a string"),
        (b'{"error": {}}', "an empty body"),
        (b"{}", "an empty body"),
        (b"[]", "an empty body"),
        (b"{broken", "{broken"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"error": {"message": {"a": 1}}}', '{"a":1}'),
    ],
)
def test_every_kind_of_body_is_read(body: bytes, words: str) -> None:
    """Any shape of an error body can be read."""
    error = failure(502, {}, body)
    assert type(error) is InternalServerError
    assert words in str(error)


def test_a_message_that_nests_without_end_is_read() -> None:
    """A document nested in documents many times becomes an error too."""
    body = json.dumps({"error": "deep"})
    for _ in range(6):
        body = json.dumps({"error": body})
    assert "deep" in str(failure(400, {}, body.encode()))


def test_a_redirect_says_where_it_points() -> None:
    """Redirects are not followed, because the key would be sent to the target."""
    error = failure(307, {"Location": "https://other.test/v1"}, b"")
    assert type(error) is UnexpectedResponseError
    assert "https://other.test/v1" in str(error)
    assert "not followed" in str(error)


def test_keys_are_masked_everywhere() -> None:
    """A key that the server quotes is nowhere in the error."""
    secrets.register("sk-echoed-key")
    body = json.dumps(_openai("bad key sk-echoed-key", code="sk-echoed-key", type="sk-echoed-key"))
    headers = {"location": "https://x.test/?key=sk-echoed-key"}
    for error in (failure(401, {}, body.encode()), failure(301, headers, body.encode())):
        shown = f"{error} {error!r} {error.body} {error.code} {error.type} {error.args}"
        assert "sk-echoed-key" not in shown
        assert "[redacted]" in shown


def test_messages_are_short_and_bodies_are_kept() -> None:
    """The message fits a terminal; the body is kept up to a limit."""
    error = failure(500, {}, b"word " * 10_000)
    assert len(str(error)) < 300
    assert error.body is not None
    assert len(error.body) == 4096


def test_the_wait_is_on_the_error() -> None:
    """The error has the seconds of Retry-After."""
    assert failure(429, {"Retry-After": "7"}, b"").retry_after == 7
    assert failure(503, {}, b"").retry_after is None


def test_errors_survive_pickling() -> None:
    """Class, message and attributes cross processes."""
    error = failure(429, {"retry-after": "2"}, b'{"error": {"message": "slow", "code": "x"}}')
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is RateLimitError
    assert (str(copy), copy.status, copy.code) == ("HTTP 429: slow", 429, "x")
    assert (copy.retry_after, copy.body, copy.retryable) == (2.0, error.body, True)
