"""`llmengine record` and `llmengine replay`: the proxy as a program."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import httpx

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def ask(url: str, prompt: str) -> httpx.Response:
    """One chat completion."""
    body = {"model": "mock", "messages": [{"role": "user", "content": prompt}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False)


def ended(process: Any) -> tuple[int, str]:
    """Exit status and standard error after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    return process.wait(20), said


def test_what_is_recorded_is_replayed_without_the_server(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """Two answers pass through the recorder into one file; the replayer gives them again."""
    with (
        MockServer() as server,
        serving("record", "--upstream", server.root_url, "--engine", "mock", tmp_path) as (
            process,
            url,
        ),
    ):
        first = [ask(url, prompt).json() for prompt in ("One.", "Two.")]
        status, said = ended(process)
    files = list(tmp_path.glob("*.yaml"))
    assert (status, len(files)) == (0, 1)
    assert said == f"2 exchanges recorded in {files[0]}\n"
    with serving("replay", tmp_path) as (process, url):
        assert [ask(url, prompt).json() for prompt in ("One.", "Two.")] == first
        status, said = ended(process)
    assert status == 0
    assert said.startswith("replaying mock, recorded ")


def test_request_that_was_not_recorded_ends_the_replay_with_1(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """The output describes the miss and the nearest recording."""
    with (
        MockServer() as server,
        serving("record", "--upstream", server.root_url, tmp_path / "tape.yaml") as (process, url),
    ):
        ask(url, "One.")
        ended(process)
    with serving("replay", tmp_path / "tape.yaml") as (process, url):
        assert ask(url, "Three.").status_code == 501
        status, said = ended(process)
    assert status == 1
    assert "not in the recording: " in said
    assert "Three." in said


def test_upstream_that_is_gone_ends_the_recording_with_1(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """The output says what could not be recorded, and no file is written."""
    with serving("record", "--upstream", "http://127.0.0.1:9", tmp_path) as (process, url):
        assert ask(url, "One.").status_code == 502
        status, said = ended(process)
    assert status == 1
    assert said.startswith("not recorded: ")
    assert list(tmp_path.iterdir()) == []


def test_a_miss_does_not_lose_what_passed(serving: Callable[..., Any], tmp_path: Path) -> None:
    """A session with one failed call keeps the others, and reports the failed one."""
    tape = tmp_path / "tape.yaml"
    server = MockServer()
    server.start()
    with serving("record", "--upstream", server.root_url, tape) as (process, url):
        assert ask(url, "One.").status_code == 200
        server.stop()
        assert ask(url, "Two.").status_code == 502
        status, said = ended(process)
    assert status == 1
    assert f"1 exchange recorded in {tape}" in said
    assert "not recorded: " in said
    assert "One." in tape.read_text("utf-8")


def test_replay_of_nothing_is_one_line(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """The error of a folder without recordings says how to record."""
    ran = llmengine("replay", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "llmengine record" in ran.err
    assert ran.err.count("\n") == 1


def test_port_in_use_is_one_line(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """One line names the port and says what to do."""
    with MockServer() as server:
        port = server.root_url.rsplit(":", 1)[1]
        ran = llmengine("record", "--upstream", server.root_url, "--port", port, tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "give another port, or 0 for a free one" in ran.err
    assert ran.err.count("\n") == 1


def test_wrong_upstream_is_one_line(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """An invalid address is an error before the proxy listens."""
    ran = llmengine("record", "--upstream", "nowhere", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "upstream is " in ran.err
    assert ran.err.count("\n") == 1
