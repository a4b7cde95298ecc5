"""``llmengine batch``: its output and its exit status."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from llmengine import Progress, Usage
from llmengine.mock import BatchSchedule, Fault, MockServer, Script
from pytest_llmengine.cli.batch_run import batch_progress, describe_progress, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LLMENGINE_API_KEY", "LLMENGINE_URL", "VLLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[MockServer]:
    """A mock server."""
    with MockServer() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Callable[[int], Path]:
    """A function that writes an input of that many lines."""

    def write(count: int) -> Path:
        path = tmp_path / "in.jsonl"
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        row = {"method": "POST", "url": "/v1/chat/completions", "body": body}
        lines = [json.dumps({"custom_id": f"r{i}", **row}) for i in range(count)]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return write


def test_all_answered(llmengine: Any, server: MockServer, source: Any, tmp_path: Path) -> None:
    """Status 0 and one line with counts, tokens and a cost that is unknown, not 0."""
    ran = llmengine(
        "batch",
        source(3),
        "-o",
        tmp_path / "out.jsonl",
        "--url",
        server.root_url,
        "--model",
        "mock",
    )

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"{tmp_path}/out.jsonl: 3 of 3 lines answered, 3 requests in 0:00:0")
    assert ran.out.endswith("27 tokens, cost unknown\n")
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 3


def test_some_failed(llmengine: Any, server: MockServer, source: Any) -> None:
    """Status 1, the first errors and a hint; --only-failed then sends the failed lines."""
    argv = ["batch", source(9), "-o", "out.jsonl", "--url", server.root_url, "--model", "mock"]
    server.play(Script(faults=[Fault(status=403)] * 7))

    failed = llmengine(*argv)
    mended = llmengine(*argv, "--only-failed")

    assert failed.status == 1
    assert "2 of 9 lines answered, 7 failed" in failed.out
    assert failed.err.count("HTTP 403") == 5
    assert "--only-failed" in failed.err
    assert (mended.status, mended.err) == (0, "")
    assert "9 of 9 lines answered, 2 of them in earlier runs, 7 requests" in mended.out


def test_without_resume_everything_is_sent_again(
    llmengine: Any, server: MockServer, source: Any
) -> None:
    """--no-resume sends everything again."""
    argv = ["batch", source(2), "-o", "out.jsonl", "--url", server.root_url, "--model", "mock"]

    for option in ([], [], ["--no-resume"]):
        assert llmengine(*argv, *option).status == 0

    assert len(server.calls) == 4


def test_several_engines_of_a_file_share(
    llmengine: Any, server: MockServer, source: Any, tmp_path: Path
) -> None:
    """Engines of an engines file, each with its own key and limits."""
    with MockServer(api_key="sk-second") as second:
        (tmp_path / "engines.yaml").write_text(
            f"- {{name: a, backend: vllm_api, model: mock, endpoint: '{server.root_url}'}}\n"
            f"- {{name: b, backend: vllm_api, model: mock, endpoint: '{second.root_url}', "
            "api_key: sk-second}\n"
        )
        options = ["--config", "engines.yaml", "--engine", "a", "--engine", "b"]
        ran = llmengine("batch", source(40), "-o", "out.jsonl", *options, "--concurrency", "2")

        assert ran.status == 0
        assert len(server.calls) + len(second.calls) == 40
        assert server.calls
        assert second.calls
        assert {call.headers.get("authorization") for call in server.calls} == {None}


def test_several_urls_share(llmengine: Any, server: MockServer, source: Any) -> None:
    """Without a file, several addresses can be given."""
    with MockServer() as second:
        urls = ["--url", server.root_url, "--url", second.root_url]
        ran = llmengine("batch", source(40), "-o", "out.jsonl", *urls, "--model", "mock")

        assert ran.status == 0
        assert len(server.calls) + len(second.calls) == 40
        assert server.calls
        assert second.calls


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "nonsense"], "unknown engine 'nonsense'"),
        (["--engine", "openai_compatible"], "has no address"),
        (["--url", "ftp://x"], "'ftp://x'"),
        (
            ["--url", "x", "--engine", "mock", "--engine", "mock"],
            "--url goes with one --engine only",
        ),
        (["--url", "x", "--url", "y", "--engine", "mock", "--engine", "mock"], "--url goes with"),
        (["--engine", "mock", "--concurrency", "0"], "'--concurrency'"),
        (["--engine", "mock", "--only-failed"], "no such output"),
        (["--engine", "mock", "-o", "in.jsonl"], "over the input"),
        (["--engine", "mock", "-o", "."], "is a file, and this is not one"),
    ],
)
def test_a_wrong_option_is_one_line(
    llmengine: Any, source: Any, options: list[str], message: str
) -> None:
    """Status 2 and one line; no file is created."""
    path = source(1)
    before = sorted(path.parent.iterdir())

    ran = llmengine("batch", "in.jsonl", "-o", "out.jsonl", *options)

    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("llmengine: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert sorted(path.parent.iterdir()) == before


def test_missing_input_is_one_line(llmengine: Any) -> None:
    """The error names the file."""
    ran = llmengine("batch", "none.jsonl", "-o", "out.jsonl", "--engine", "mock")

    assert (ran.status, ran.err) == (2, "llmengine: none.jsonl: No such file or directory\n")


def test_interrupt_says_how_to_continue(
    command: list[str], server: MockServer, source: Any, tmp_path: Path
) -> None:
    """Ctrl-C is status 130 and one line."""
    server.play(Script(faults=repeat(Fault(delay=0.05))))
    argv = ["batch", source(5000), "-o", "out.jsonl", "--url", server.root_url, "--model", "mock"]
    with subprocess.Popen([*command, *map(str, argv)], stderr=subprocess.PIPE) as process:
        while not (tmp_path / "out.jsonl").exists() or not (tmp_path / "out.jsonl").stat().st_size:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGINT)
        _, printed = process.communicate()

    assert process.returncode == 130
    assert printed.decode() == (
        "interrupted; the answers so far are in out.jsonl; run the same command again to continue\n"
    )


def test_text_of_progress() -> None:
    """Rate, tokens, cost and time left are shown if they are known."""
    usage = Usage(total_tokens=12_345)
    known = Progress(
        total=1000, answered=290, failed=10, earlier=100, attempts=250, usage=usage, cost=0.5,
        currency="EUR",
        seconds=20.0, resting=("b",), pauses={"c": 36.6},
    )  # fmt: skip
    unknown = Progress(answered=5, attempts=5, seconds=2.0)

    assert describe_progress(known) == (
        "10 failed, 10 lines/s, 12,345 tokens, 0.5000 EUR, 0:01:10 left, not answering: b, "
        "c asks to wait 37 s"
    )
    assert describe_progress(unknown) == "2.5 lines/s"
    assert summary(known) == (
        "290 of 1000 lines answered, 10 failed, 100 of them in earlier runs, "
        "250 requests in 0:00:20, 12,345 tokens, 0.5000 EUR"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_terminal_gets_a_bar_and_a_pipe_gets_lines(terminal: bool) -> None:
    """The bar is removed at the end; the lines have no control codes."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, legacy_windows=False)
    with batch_progress(console, line_seconds=0) as watch:
        watch(Progress(total=10, answered=4, attempts=4, seconds=1.0))

    if terminal:
        assert "4/10" in stream.getvalue()
        assert stream.getvalue().endswith("\x1b[2K")
    else:
        assert stream.getvalue() == "4 of 10 lines, 4 lines/s, 0:00:02 left\n"


def test_tool_that_was_not_called_fails_its_line(
    llmengine: Any, raw_server: Any, chat: Any, tmp_path: Path
) -> None:
    """The status is 1, and the error says what the request demanded."""
    tool = {"type": "function", "function": {"name": "weather"}}
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [tool],
        "tool_choice": "required",
    }
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(line), "utf-8")
    server = raw_server(lambda _, connection: connection.reply(chat("It rains.")))

    ran = llmengine(
        "batch", source, "-o", tmp_path / "out.jsonl", "--url", server.url, "--model", "m"
    )

    assert ran.status == 1
    assert "tool_choice is 'required', and the answer calls no tool" in " ".join(ran.err.split())


def test_hosted_batch_is_started_and_read_later(
    llmengine: Any, server: MockServer, source: Any
) -> None:
    """Status 1 while a batch is under way; the same command later reads the answers."""
    argv = ["batch", source(2), "-o", "out.jsonl", "--url", server.root_url, "--model", "mock"]
    server.schedule_batches(BatchSchedule(seconds=0.2))

    started = llmengine(*argv, "--hosted", "--no-wait")
    direct = llmengine(*argv)
    finished = llmengine(*argv, "--hosted", "--poll", "0.05")

    assert started.status == 1
    assert ": validating, 0 of 2 lines\n1 batch is under way; run the same" in started.err
    assert direct.status == 2
    assert "continue them with --hosted" in direct.err
    assert finished.status == 0
    assert "completed, 2 of 2 lines" in finished.err
    assert finished.out.startswith("out.jsonl: 2 of 2 lines answered, 2 requests in")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cancel"], "add --hosted"),
        (["--no-wait"], "add --hosted"),
        (["--poll", "1"], "add --hosted"),
        (["--hosted", "--url", "http://127.0.0.1:1"], "--hosted needs one --engine or --url"),
        (["--hosted", "--concurrency", "2"], "no --concurrency"),
        (["--hosted", "--cancel"], "it has no hosted batches"),
    ],
)
def test_hosted_options_that_do_not_fit(
    llmengine: Any, server: MockServer, source: Any, options: list[str], message: str
) -> None:
    """One line says which option is wrong."""
    ran = llmengine("batch", source(1), "-o", "out.jsonl", "--url", server.root_url, *options)

    assert ran.status == 2
    assert message in ran.err
    assert not server.calls
