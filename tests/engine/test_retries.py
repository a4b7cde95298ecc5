"""Which failures are retried, how often and after which wait."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

from llmengine import (
    Engine,
    EngineConfig,
    InternalServerError,
    RateLimitError,
    UnexpectedResponseError,
)
from llmengine.backends.openai_compatible import OpenAICompatible
from llmengine.dialects.openai_chat import OpenAIChat
from llmengine.transport.policies import wait_before

if TYPE_CHECKING:
    import pytest


def _error(message: str = "no", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "param": None, "code": None} | fields}


def failing(times: int, chat: Any, *, status: int = 500, headers: Any = None) -> Any:
    """A handler that fails the given number of times and then answers."""
    count = itertools.count()

    def handler(_: Any, connection: Any) -> None:
        if next(count) < times:
            connection.reply(_error(), status=status, headers=headers)
        else:
            connection.reply(chat("at last"))

    return handler


def test_not_implemented_is_not_tried_again(engine_for: Any) -> None:
    """A 501 lasts, unlike the other statuses from 500 on."""
    engine, server = engine_for(lambda _, c: c.reply(_error(), status=501))

    (result,) = engine.results("hi")

    assert type(result.error) is InternalServerError
    assert result.attempts == len(server.requests) == 1


def test_no_retries_when_none_are_wanted(engine_for: Any, chat: Any) -> None:
    """``max_retries=0`` means one attempt."""
    engine, server = engine_for(failing(99, chat), max_retries=0)

    engine.results("hi")

    assert len(server.requests) == 1


def test_broken_connection_is_tried_again(engine_for: Any, chat: Any) -> None:
    """A connection that breaks before the answer costs one attempt."""
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


def test_waits_between_attempts_are_configured(
    engine_for: Any, chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A short retry_wait shortens retries and the common pause after a 429."""
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
    """The next attempt does not come before the time that the server asked for."""
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
    """The error comes at once and has the hour, instead of a silent wait."""
    engine, server = engine_for(failing(1, chat, status=429, headers={"Retry-After": "3600"}))

    (result,) = engine.results("hi")

    assert isinstance(result.error, RateLimitError)
    assert result.error.retry_after == 3600
    assert len(server.requests) == 1


def test_waits_grow_and_jitter_within_bounds() -> None:
    """Full jitter: between the floor and a ceiling that doubles up to a maximum."""
    error = RateLimitError("slow down", retry_after=2.0)
    assert max(wait_before(12, error, patience=3.0) for _ in range(200)) == 3.0

    for attempt, ceiling in [(2, 0.5), (3, 1.0), (4, 2.0), (12, 30.0)]:
        waits = [wait_before(attempt, error) for _ in range(200)]
        assert min(waits) >= 2.0
        assert max(waits) <= 2.0 + ceiling
        assert max(waits) - min(waits) > ceiling / 2


def test_tokens_of_a_refused_answer_are_counted(raw_server: Any, chat: Any) -> None:
    """The result has the usage that its error knows."""

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
