"""Which address gets which key from the openai backend, and that no log shows a key."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import traceback
from typing import Any

import pytest

from llmengine import AuthenticationError, ConfigError, EngineConfig

pytest.importorskip("openai")

KEY = "k3y-without-any-usual-prefix"


@pytest.fixture
def server(raw_server: Any, chat: Any) -> Any:
    """A server that answers every request."""
    return raw_server(lambda _, c: c.reply(chat()))


def _ask(engine: Any) -> None:
    engine.generate("hi")


def test_address_by_default_is_openai_s(no_openai_variables: None) -> None:
    """Without any setting the requests go to OpenAI's responses API."""
    engine = EngineConfig(backend="openai", model="m").engine

    assert engine.backend.url == "https://api.openai.com/v1/responses"


@pytest.mark.parametrize(
    ("endpoint", "gets_it"),
    [
        (None, True),
        ("https://api.openai.com/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com.example/v1", False),
        ("https://gateway.example/v1", False),
    ],
)
def test_key_of_the_environment_goes_to_openai_only(
    monkeypatch: pytest.MonkeyPatch, no_openai_variables: None, endpoint: str | None, gets_it: bool
) -> None:
    """Another endpoint needs a key that is configured by name."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = EngineConfig(backend="openai", model="m", endpoint=endpoint)

    assert (config.engine.api_key == KEY) is gets_it
    named = config.model_copy(update={"api_key_env": "OPENAI_API_KEY"})
    assert named.engine.api_key == KEY


def test_key_goes_to_the_address_that_the_environment_gives(
    monkeypatch: pytest.MonkeyPatch, no_openai_variables: None, server: Any
) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY belong together, as for the SDK."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")

    _ask(EngineConfig(backend="openai", model="m", options={"api": "chat"}).engine)

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "variable", ["OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"]
)
def test_no_key_of_the_environment_reaches_another_server(
    monkeypatch: pytest.MonkeyPatch, openai_engine: Any, server: Any, variable: str
) -> None:
    """Variables that the SDK reads by itself are not sent either."""
    monkeypatch.setenv(variable, KEY)

    _ask(openai_engine(f"{server.url}/v1", "chat"))

    assert "authorization" not in server.requests[0].headers
    assert KEY not in str(server.requests[0])


def test_configured_headers_and_organization_are_sent(
    monkeypatch: pytest.MonkeyPatch, openai_engine: Any, server: Any
) -> None:
    """OPENAI_ORG_ID and OPENAI_PROJECT_ID are sent by the SDK; Authorization is sent once."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    headers = {"authorization": f"Token {KEY}", "X-Team": "red"}

    _ask(openai_engine(f"{server.url}/v1", "chat", headers=headers, api_key="sk-other-key"))

    sent = server.requests[0].headers
    assert (sent["openai-organization"], sent["openai-project"]) == ("org-1", "proj-1")
    assert (sent["authorization"], sent["x-team"]) == (f"Token {KEY}", "red")


def test_cookies_of_one_engine_are_not_sent_by_another(
    raw_server: Any, chat: Any, openai_engine: Any
) -> None:
    """Engines share only connections."""
    server = raw_server(lambda _, c: c.reply(chat(), headers={"Set-Cookie": "session=1; Path=/"}))

    for _ in range(2):
        _ask(openai_engine(f"{server.url}/v1", "chat"))

    assert not any("cookie" in request.headers for request in server.requests)


def test_key_is_in_no_error_and_no_log(
    raw_server: Any, openai_engine: Any, api: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server quotes the key; a second key is only in a configured header."""
    caplog.set_level(logging.DEBUG)
    body = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    server = raw_server(lambda _, c: c.reply(body, status=401, headers={"X-Request-Id": KEY}))
    engine = openai_engine(f"{server.url}/v1", api, api_key=KEY, headers={"X-Api-Key": f"{KEY}-2"})

    (result,) = engine.results("hi", extra_body={"metadata": {"leak": KEY}})

    assert isinstance(result.error, AuthenticationError)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    shown = "".join(traceback.format_exception(result.error))
    assert "openai" in caplog.text
    assert not any(KEY in text for text in (shown, repr(result), repr(engine), caplog.text))


def test_sdk_log_that_the_environment_turned_on_shows_no_key(mock_program: Any) -> None:
    """With OPENAI_LOG=debug the SDK writes to stderr through its own handler."""
    log = mock_program(OPENAI_LOG="debug")

    assert "openai._base_client" in log
    assert "[redacted]" in log
    assert KEY not in log


@pytest.fixture
def mock_program(raw_server: Any, chat: Any) -> Any:
    """Runs an engine in another process and returns what it wrote to stderr."""
    server = raw_server(lambda _, c: c.reply(chat(), headers={"X-Request-Id": KEY}))
    script = (
        "from llmengine import EngineConfig\n"
        f"EngineConfig(backend='openai', model='m', endpoint='{server.url}/v1', api_key={KEY!r}, "
        "options={'api': 'chat'}).engine.generate('hi', extra_body={'user': " + repr(KEY) + "})"
    )

    def run(**variables: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": ":".join(sys.path), **variables},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_traceback_in_a_log_record_is_scrubbed_too() -> None:
    """The handler writes a record's exception after the filters have run."""
    _ = EngineConfig(backend="openai", model="m", api_key=KEY).engine
    logger, written = logging.getLogger("openai"), io.StringIO()
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    try:
        raise ValueError(KEY)
    except ValueError:
        logger.exception("failed with %s", KEY)
    finally:
        logger.removeHandler(handler)

    assert "ValueError: [redacted]" in written.getvalue()
    assert KEY not in written.getvalue()


def test_logger_that_is_made_later_shows_no_key_either() -> None:
    """The loggers of httpcore are made when the first connection opens."""
    _ = EngineConfig(backend="openai", model="m", api_key=KEY).engine
    logger, written = logging.getLogger("httpcore2.made_after_the_engine"), io.StringIO()
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    try:
        logger.warning("sent %s to %s", [("x-echo", KEY)], "http://me:password@h")
    finally:
        logger.removeHandler(handler)

    assert written.getvalue() == "sent [('x-echo', '[redacted]')] to http://[redacted]@h\n"


def test_refused_key_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, raw_server: Any, openai_engine: Any
) -> None:
    """The error names a key that was not sent, and the setting that would send it."""
    server = raw_server(lambda _, c: c.reply({"error": {"message": "who?"}}, status=401))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    (result,) = openai_engine(f"{server.url}/v1").results("hi")

    assert "OPENAI_API_KEY is set, but for another address" in str(result.error)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the SDK the engine cannot be made, and the message has the install command."""
    monkeypatch.setitem(sys.modules, "openai", None)

    with pytest.raises(ConfigError, match=r"pip install 'pytest-llmengine\[openai\]'"):
        _ = EngineConfig(backend="openai", model="m").engine


def test_sdk_is_imported_when_an_engine_is_made_and_not_before() -> None:
    """A configuration that names the backend imports nothing."""
    script = (
        "import sys; from llmengine import EngineConfig\n"
        "config = EngineConfig(backend='openai', model='m')\n"
        "assert 'openai' not in sys.modules\n"
        "config.engine; assert 'openai' in sys.modules"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
