"""What pytest prints and writes for failing tests with a key, in pytest runs of their own."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.secrets.failures import ANSWERS, COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE = Path(__file__).parent
_OPTIONS = (
    "--showlocals",
    "-vv",
    "--tb=long",
    "--log-level=DEBUG",
    *("-o", "junit_logging=all"),
    *("-p", "no:cacheprovider"),
    *("-W", "error"),
)


def _answer(request: Any, connection: Any) -> None:
    """Each of the answers, with the key in it as often as possible."""
    key = request.headers["authorization"].removeprefix("Bearer ")
    in_base64 = base64.b64encode(f"me:{key}".encode()).decode()
    echo = f"{key} {in_base64} {key.encode().hex()}"
    cookie = {"Set-Cookie": f"session={key}"}
    match ANSWERS[int(request.path.split("/")[1])]:
        case "refuses":
            connection.reply({"error": {"message": echo, "code": echo}}, status=401, headers=cookie)
        case "redirects":
            connection.reply({}, status=307, headers={"Location": f"http://me:{key}@h/?key={key}"})
        case "is no JSON":
            connection.reply(echo.encode(), headers=cookie)
        case "has no choices":
            connection.reply({"choices": echo}, headers=cookie)
        case "is no HTTP":
            connection.send(f"HTTP/9 {echo}\r\n\r\n".encode())
            connection.drop()
        case "is cut":
            connection.head(200, {"Content-Type": "text/event-stream", "Content-Length": "999"})
            connection.send(f"data: {echo}".encode())
            connection.drop()
        case "is nothing":
            connection.drop()
        case "is an event of an error":
            connection.start_sse()
            connection.sse({"error": {"message": echo}})
            connection.chunk(b"")


@pytest.fixture
def pytest_output(raw_server: Any, key: str, tmp_path: Path) -> Callable[..., str]:
    """Runs the failing tests; gives the printed text and the text of the JUnit file."""
    server, report = raw_server(_answer), tmp_path / "junit.xml"

    command = [sys.executable, "-m", "pytest", *_OPTIONS, f"--junitxml={report}"]
    command += ["-c", os.devnull, f"--rootdir={_HERE.parents[1]}", str(_HERE / "failures.py")]

    def run(*options: str, count: int = COUNT, **variables: str) -> str:
        done = subprocess.run(
            [*command, *options],
            env={**os.environ, "TESTS_SHOWN_URL": server.url, "OPENAI_LOG": "debug", **variables},
            cwd=_HERE.parents[1],
            capture_output=True,
            encoding="utf-8",
            timeout=180,
            check=False,
        )
        assert f"{count} failed" in done.stdout, done.stdout[-3000:] + done.stderr
        assert " passed" not in done.stdout
        return done.stdout + done.stderr + report.read_text("utf-8")

    return run


def _spellings(key: str) -> list[str]:
    return [key, key.encode().hex(), base64.b64encode(f"me:{key}".encode()).decode()[4:-4]]


def test_objects_hide_the_key_by_themselves(pytest_output: Callable[..., str], key: str) -> None:
    """Without the plugin only the objects can, as for Sentry and other tools."""
    text = pytest_output("-p", "no:llmengine")

    assert "[redacted]" in text
    assert [spelling for spelling in _spellings(key) if spelling in text] == []


def test_plugin_takes_the_key_out_of_the_users_own_locals(
    pytest_output: Callable[..., str], key: str
) -> None:
    """A text in a test's own frame, in its output and in an assertion."""
    text = pytest_output(count=COUNT + 1, TESTS_SHOWN_LOCALS="yes")

    assert "printed [redacted]" in text
    assert [spelling for spelling in _spellings(key) if spelling in text] == []
