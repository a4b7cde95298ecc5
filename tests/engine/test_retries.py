"""Which failures are tried again, how often, and after how long."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from llmengine import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    Engine,
    EngineConfig,
    InternalServerError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    UnexpectedResponseError,
)
from llmengine.backends.openai_compatible import OpenAICompatible
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.transport.policies import wait_before


def _error(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None} | fields}


def failing(times: int, chat: Any, *, status: int = 500, headers: Any = None) -> Any:
    """A handler that fails so often and then answers."""
    count = itertools.count()

    def handler(_: Any, connection: Any) -> None:
        if next(count) < times:
            connection.reply(_error(), status=status, headers=headers)
        else:
            connection.reply(chat("at last"))

    return handler


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(engine_for: Any, chat: Any, status: int) -> None:
    """A status that may pass is followed by another attempt, and the attempts are counted."""
    engine, server = engine_for(failing(1, chat, status=status))

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "at last"
    assert result.attempts == len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, _error(), BadRequestError),
        (400, _error(code="context_length_exceeded"), ContextLengthError),
        (401, _error(), AuthenticationError),
        (403, _error(), AuthenticationError),
        (404, _error(), NotFoundError),
        (422, _error(), BadRequestError),
        (429, _error(code="insufficient_quota"), QuotaError),
        (501, _error(), InternalServerError),
        (307, {}, UnexpectedResponseError),
    ],
)
def test_lasting_trouble_is_not(engine_for: Any, status: int, body: Any, error: type) -> None:
    """What no waiting mends is asked once."""
    engine, server = engine_for(lambda _, c: c.reply(body, status=status))

    (result,) = engine.results("hi")

    assert type(result.error) is error
    assert result.attempts == len(server.requests) == 1


def test_attempts_end(engine_for: Any, chat: Any) -> None:
    """After max_retries the last error is the result, with its attempts."""
    engine, server = engine_for(failing(99, chat), max_retries=2)

    (result,) = engine.results("hi")

    assert isinstance(result.error, InternalServerError)
    assert result.attempts == result.error.attempts == len(server.requests) == 3


def test_no_retries_when_none_are_wanted(engine_for: Any, chat: Any) -> None:
    """max_retries 0 is one attempt."""
    engine, server = engine_for(failing(99, chat), max_retries=0)

    engine.results("hi")

    assert len(server.requests) == 1


def test_broken_connection_is_tried_again(engine_for: Any, chat: Any) -> None:
    """A connection that breaks before the answer costs an attempt, not the answer."""
    count = itertools.count()

    def handler(_: Any, connection: Any) -> None:
        if next(count) == 0:
            connection.drop()
        elif next(count) == 2:
            connection.head(200, {"Content-Type": "application/json", "Content-Length": "500"})
            connection.send(b'{"id": "half')
            connection.drop()
        else:
            connection.reply(chat("at last"))

    engine, server = engine_for(handler)

    (result,) = engine.results("hi")

    assert result.unwrap().outputs[0].text == "at last"
    assert result.attempts == len(server.requests) == 3


def test_server_that_is_not_there_is_named(engine_for: Any) -> None:
    """The address and the system's own words are in the error."""
    engine, _ = engine_for(lambda _, c: c.reply({}))
    nowhere = engine.config.model_copy(update={"endpoint": "http://127.0.0.1:9", "max_retries": 0})

    (result,) = nowhere.engine.results("hi")

    assert isinstance(result.error, APIConnectionError)
    assert "cannot connect to http://127.0.0.1:9/v1/chat/completions" in str(result.error)


def test_waits_between_attempts_are_configured(
    engine_for: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With a short retry_wait, retries and the common pause after a 429 are as short."""
    caplog.set_level(logging.INFO, "llmengine")
    engine, server = engine_for(failing(5, chat, status=429), max_retries=5, retry_wait=0.001)

    (result,) = engine.results("hi")

    assert result.attempts == len(server.requests) == 6
    waits = [r.args[1] for r in caplog.records if r.msg.startswith("attempt")]
    pauses = [r.args[1] for r in caplog.records if "asks to wait" in r.msg]
    assert len(waits) == 5
    assert all(wait <= 0.001 * 2**place for place, wait in enumerate(waits))
    assert pauses == [0.001]


def test_retry_after_is_a_floor(engine_for: Any, chat: Any, clock: Any) -> None:
    """The next attempt does not come before the server said it may."""
    times: list[float] = []
    inner = failing(1, chat, status=503, headers={"Retry-After": "30"})

    def handler(request: Any, connection: Any) -> None:
        times.append(clock.time())
        inner(request, connection)

    engine, _ = engine_for(handler, timeout={"connect": None, "total": None})
    started = clock.time()

    with clock.passing(1):
        engine.generate("hi")

    assert times[0] >= started
    assert times[1] >= started + 30


def test_server_that_asks_for_too_long_is_given_up(engine_for: Any, chat: Any) -> None:
    """Nobody waits an hour in silence: the error comes at once and holds the hour."""
    engine, server = engine_for(failing(1, chat, status=429, headers={"Retry-After": "3600"}))

    (result,) = engine.results("hi")

    assert isinstance(result.error, RateLimitError)
    assert result.error.retry_after == 3600
    assert len(server.requests) == 1


def test_waits_grow_and_jitter_within_bounds() -> None:
    """Full jitter: from the floor up to a ceiling that doubles and then stays."""
    error = RateLimitError("slow down", retry_after=2.0)
    assert max(wait_before(12, error, patience=3.0) for _ in range(200)) == 3.0

    for attempt, ceiling in [(2, 0.5), (3, 1.0), (4, 2.0), (12, 30.0)]:
        waits = [wait_before(attempt, error) for _ in range(200)]
        assert min(waits) >= 2.0
        assert max(waits) <= 2.0 + ceiling
        assert max(waits) - min(waits) > ceiling / 2


def test_tokens_of_an_answer_that_was_no_use_are_counted(raw_server: Any, chat: Any) -> None:
    """What an error knows of its cost is on the result."""

    class Picky(OpenAIChat):
        def decode(self, body: bytes, request: Any) -> Any:
            raise UnexpectedResponseError("not to my taste", partial=super().decode(body, request))

    class PickyBackend(OpenAICompatible):
        dialect = Picky()

    server = raw_server(lambda _, c: c.reply(chat()))
    config = EngineConfig(backend="openai_compatible", model="m", endpoint=server.url)

    (result,) = Engine(config, PickyBackend).results("hi")

    assert isinstance(result.error, UnexpectedResponseError)
    assert result.usage.total_tokens == 5
