"""`llmengine mock serve`."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVE = ["mock", "serve", "--port", "0"]
HELLO = {"model": "mock", "messages": [{"role": "user", "content": "Hello."}]}


def ask(url: str, model: str = "mock", **headers: str) -> httpx.Response:
    """One chat completion."""
    body = HELLO | {"model": model}
    return httpx.post(f"{url}/chat/completions", json=body, headers=headers, trust_env=False)


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


def test_replies_by_content_models_and_load_are_served(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """A line with conditions is a reply by content, and each model answers."""
    replies = tmp_path / "replies.jsonl"
    when = {"contains": "Hello", "model": "large"}
    line = {"when": when, "replies": ["One.", {"content": "Two."}]}
    replies.write_text(json.dumps(line), encoding="utf-8")
    argv = ["--model", "small", "--model", "large", "--replies", replies, "--slots", "1"]
    load = ["--queue", "0", "--retry-after", "9", "--chaos", "slow=1,slow_seconds=0", "--seed", "3"]
    with serving(*SERVE, *argv, *load) as (_, url):
        large = [ask(url, model="large").json() for _ in range(2)]
        small = ask(url, model="small")
        models = httpx.get(f"{url}/models", trust_env=False).json()["data"]
    assert [a["choices"][0]["message"]["content"] for a in large] == ["One.", "Two."]
    assert small.json()["object"] == "chat.completion"
    assert [model["id"] for model in models] == ["small", "large"]


def test_a_busy_server_refuses(serving: Callable[..., Any]) -> None:
    """With one slot and no queue, one of two requests at once gets a 429 with Retry-After."""
    load = ["--slots", "1", "--queue", "0", "--retry-after", "9", "--time-to-first-token", "0.3"]
    with serving(*SERVE, *load) as (_, url), ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: ask(url), range(2))
    (refused,) = [answer for answer in (first, second) if answer.status_code == 429]
    assert refused.headers["retry-after"] == "9"


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
        (["--slots", "0"], "Load: slots is 0; it must be a whole number above 0"),
        (["--queue", "3"], "queue has no effect without slots"),
        (["--chaos", "stats=1"], "unknown failure 'stats'; the failures are status, cut, stall"),
        (["--chaos", "cut=2"], "Chaos: cut is 2.0; it must be a probability from 0 to 1"),
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
