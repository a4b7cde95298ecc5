"""A key goes to the server it is for, and nowhere else."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from llmengine import AuthenticationError, UnexpectedResponseError

if TYPE_CHECKING:
    import pytest

KEY = "k3y-without-any-usual-prefix"


def test_key_is_sent_as_bearer(engine_for: Any, chat: Any) -> None:
    """The configured server gets the key."""
    engine, server = engine_for(lambda _, c: c.reply(chat()), api_key=KEY)

    engine.generate("hi")

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_key_is_scrubbed_by_value(engine_for: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A server that quotes the key back does not get it into an error, a log or a repr."""
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
    """Without a key the advice is to configure one; with one, that it was not accepted."""
    body = {"error": {"message": "who are you"}}
    without, _ = engine_for(lambda _, c: c.reply(body, status=401), name="a")
    wrong, _ = engine_for(lambda _, c: c.reply(body, status=401), name="b", api_key=KEY)

    assert "'a' has no key: set api_key_env" in str(without.results("hi")[0].error)
    assert "'b' was sent and not accepted" in str(wrong.results("hi")[0].error)


def test_redirect_is_not_followed(engine_for: Any, chat: Any) -> None:
    """A key must not travel to where a redirect points."""
    elsewhere, other = engine_for(lambda _, c: c.reply(chat()))
    engine, _ = engine_for(
        lambda _, c: c.reply({}, status=307, headers={"Location": elsewhere.url}), api_key=KEY
    )

    (result,) = engine.results("hi")

    assert isinstance(result.error, UnexpectedResponseError)
    assert other.requests == []
