"""A key is sent only to the server that it belongs to."""

from __future__ import annotations

import logging
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from llmengine import (
    APIConnectionError,
    AuthenticationError,
    Engine,
    EngineConfig,
)
from llmengine.backends.openai_compatible import OpenAICompatible

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "k3y-without-any-usual-prefix"


def test_key_is_scrubbed_by_value(engine_for: Any, caplog: pytest.LogCaptureFixture) -> None:
    """If a server quotes the key, it is not in the error, the log or a repr."""
    caplog.set_level(logging.DEBUG)
    body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    engine, _ = engine_for(lambda _, c: c.reply(body, status=401), api_key=KEY)

    (result,) = engine.results("hi")

    assert isinstance(result.error, AuthenticationError)
    shown = "".join(traceback.format_exception(result.error))
    texts = [shown, repr(result), repr(engine), str(result.error.body), caplog.text]
    assert not any(KEY in text for text in texts)
    assert "[redacted]" in str(result.error)


def test_refused_key_says_what_to_do(engine_for: Any) -> None:
    """Without a key the advice is to set one; with one, that the server did not accept it."""
    body = {"error": {"message": "who are you"}}
    without, _ = engine_for(lambda _, c: c.reply(body, status=401), name="a")
    wrong, _ = engine_for(lambda _, c: c.reply(body, status=401), name="b", api_key=KEY)

    assert "'a' has no key: set api_key_env" in str(without.results("hi")[0].error)
    assert "'b' was sent and not accepted" in str(wrong.results("hi")[0].error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("transport", ["asyncio", "aiohttp", "httpx"])
@pytest.mark.parametrize(
    "answer", [b"HTTP/9 what\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
)
def test_error_holds_no_request(engine_for: Any, transport: str, answer: bytes) -> None:
    """The error of the HTTP client holds the request with its headers, so it is not chained."""

    def broken(_: Any, connection: Any) -> None:
        connection.send(answer)
        connection.drop()

    engine, _ = engine_for(broken, api_key=KEY, transport=transport, max_retries=0)

    (result,) = engine.results("hi")

    assert isinstance(result.error, APIConnectionError)
    assert result.error.__cause__ is not None
    for error in _chain(result.error):
        assert error.__traceback__ is None
        assert KEY not in repr(vars(error))
        assert type(error).__module__.split(".")[0] in {"llmengine", "builtins"}
    assert KEY.encode() not in pickle.dumps(result.error)


@pytest.mark.parametrize("call", ["generate", "stream"])
def test_internal_error_has_its_traceback_as_text(call: str) -> None:
    """The text is needed to fix the bug; frames would hold requests."""

    class Broken(OpenAICompatible):
        def outgoing(self, *_: Any) -> Any:
            raise ZeroDivisionError(f"with {self.address.key}")

    config = EngineConfig(backend="openai_compatible", model="m", endpoint="http://h", api_key=KEY)

    with pytest.raises(Exception, match="ZeroDivisionError") as caught:
        list(getattr(Engine(config, Broken), call)("hi"))

    (result, *_) = getattr(caught.value, "results", [None])
    error = result.error if result else caught.value
    (note,) = error.__notes__
    assert "raise ZeroDivisionError" in note
    assert KEY not in note
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.__cause__.__traceback__ is None
