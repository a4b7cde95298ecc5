"""`llmengine mock serve`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVE = ["mock", "serve", "--port", "0"]
HELLO = {"model": "mock", "messages": [{"role": "user", "content": "Hello."}]}


def ask(url: str, **headers: str) -> httpx.Response:
    """One chat completion."""
    return httpx.post(f"{url}/chat/completions", json=HELLO, headers=headers, trust_env=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal_and_ends_cleanly(
    serving: Callable[..., Any], number: signal.Signals
) -> None:
    """The printed URL answers; Ctrl-C and SIGTERM end it with status 0, without output."""
    with serving(*SERVE) as (process, url):
        assert ask(url).json()["object"] == "chat.completion"
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_key_model_replies_and_faults_are_served(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """Every option reaches the server: faults and replies come in order."""
    replies = tmp_path / "replies.jsonl"
    replies.write_text('"One."\n"Two."\n', encoding="utf-8")
    argv = ["--api-key", "sk-served", "--model", "mock", "--replies", replies]
    with serving(*SERVE, *argv, "--fault", "none", "--fault", "status=503,retry_after=7") as (
        _,
        url,
    ):
        assert ask(url).status_code == 401
        answers = [ask(url, authorization="Bearer sk-served") for _ in range(4)]
    faults = [a for a in answers if a.status_code == 503]
    good = [a for a in answers if a.status_code == 200]
    assert [a.headers["retry-after"] for a in faults] == ["7", "7"]
    assert [a.json()["choices"][0]["message"]["content"] for a in good] == ["One.", "Two."]


def test_port_in_use_is_one_line(llmengine: Callable[..., Any]) -> None:
    """One line names the port and says what to do."""
    with MockServer() as server:
        port = server.root_url.rsplit(":", 1)[1]
        ran = llmengine("mock", "serve", "--port", port)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert f"127.0.0.1:{port}" in ran.err
    assert "choose another port" in ran.err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--fault", "speed=1"], "unknown fault 'speed'"),
        (["--replies", "no-such-file.jsonl"], "no-such-file.jsonl: No such file or directory"),
        (["--port", "many"], "'--port'"),
    ],
)
def test_wrong_argument_is_one_line(
    llmengine: Callable[..., Any], argv: list[str], said: str
) -> None:
    """A wrong fault, file or port ends the command before it serves."""
    ran = llmengine("mock", "serve", *argv)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
