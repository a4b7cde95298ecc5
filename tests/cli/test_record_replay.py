"""`llmengine record` and `llmengine replay`: the proxy as a program."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import Fault, MockServer, Script
from pytest_llmengine.recording import RecordServer, ReplayServer

if TYPE_CHECKING:
    from collections.abc import Callable


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


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[MockServer, str], Path]:
    """Records one prompt in this process, and returns the file."""

    def record(server: MockServer, prompt: str) -> Path:
        tape = tmp_path / "tape.yaml"
        with RecordServer(server.root_url) as recorder, recorder.cassette(tape):
            ask(recorder.root_url, prompt)
        return tape

    return record


def test_prompt_with_a_time(
    serving: Callable[..., Any], recorded: Callable[[MockServer, str], Path]
) -> None:
    """What does not matter is an option of both commands; new requests are added on demand."""
    with MockServer() as server:
        tape = recorded(server, "Now: 10:00.")
        adding = ("--normalize", "dates", "--record-mode", "new_episodes", tape)
        with serving("record", *adding, "--upstream", server.root_url) as (process, url):
            for prompt in ("Now: 11:00.", "Then: 11:00."):
                assert ask(url, prompt).status_code == 200
            assert ended(process) == (0, f"1 exchange recorded in {tape}\n")
        assert len(server.calls) == 2
    with serving("replay", "--normalize=dates", "--ignore-path=$.model", tape) as (process, url):
        assert [ask(url, f"{word}: 12:00.").status_code for word in ("Now", "Then")] == [200, 200]


def test_recorder_that_is_killed(
    serving: Callable[..., Any], recorded: Callable[[MockServer, str], Path]
) -> None:
    """It loses the exchange in flight and nothing else, and the earlier recording stays."""
    with MockServer() as server:
        tape = recorded(server, "Old.")
        before = tape.read_bytes()
        server.play(Script(faults=[None, None, Fault(delay=600)]))
        with (
            serving("record", "--upstream", server.root_url, tape) as (process, url),
            ThreadPoolExecutor() as pool,
        ):
            live = [ask(url, prompt).json() for prompt in ("One.", "Two.")]
            in_flight = pool.submit(ask, url, "Three.")
            while len(server.calls) < 4:
                time.sleep(0.01)
            process.kill()
            with pytest.raises(httpx.HTTPError):
                in_flight.result()

    assert tape.read_bytes() == before
    with ReplayServer() as player, player.cassette(f"{tape}.part") as cassette:
        assert [ask(player.root_url, prompt).json() for prompt in ("One.", "Two.")] == live
    assert cassette.unused == []


def test_part_is_not_overwritten(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """What a killed recorder has left is not lost when the command is run again."""
    (tmp_path / "tape.yaml.part").touch()
    ran = llmengine("record", "--upstream", "http://127.0.0.1:9", tmp_path / "tape.yaml")
    assert (ran.status, ran.out) == (2, "")
    assert "rename it to tape.yaml to keep it, or delete it" in ran.err
    assert ran.err.count("\n") == 1


def test_good_recording_is_not_replaced_by_a_partial_one(
    serving: Callable[..., Any], recorded: Callable[[MockServer, str], Path]
) -> None:
    """If a call was not recorded, an earlier file stays, and the output says where the rest is."""
    with MockServer() as server:
        tape = recorded(server, "Good.")
        before = tape.read_bytes()
        with serving("record", "--upstream", server.root_url, tape) as (process, url):
            ask(url, "One.")
            server.stop()
            ask(url, "Two.")
            status, said = ended(process)
    assert (status, tape.read_bytes()) == (1, before)
    assert f"{tape} was not changed, because a request was not recorded" in said
    assert "One." in Path(f"{tape}.part").read_text("utf-8")


def test_old_recording(
    serving: Callable[..., Any], llmengine: Callable[..., Any], tmp_path: Path
) -> None:
    """Its age is a warning or an error, in one line."""
    tape = tmp_path / "tape.yaml"
    old = RecordServer("http://127.0.0.1:9", today=lambda: date(2020, 1, 1))
    with old, old.cassette(tape):
        pass
    with serving("replay", "--max-age", 30, tape) as (process, _):
        status, said = ended(process)
    assert status == 0
    assert said.startswith(f"warning: {tape} was recorded on 2020-01-01, ")
    ran = llmengine("replay", "--max-age", 30, "--expired", "fail", tape)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "and max_age is 30 days; record it again" in ran.err


def test_record_mode_of_a_folder(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """Each recording in a folder is a new file, so there is nothing to add to."""
    ran = llmengine("record", "--upstream", "http://x", "--record-mode", "once", tmp_path)
    assert ran.status == 2
    assert "--record-mode once goes with a .yaml file, not a folder" in ran.err


def test_own_functions(
    llmengine: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function is found in the working directory; a wrong name is an error in one line."""
    (tmp_path / "matching_of_a_user.py").write_text("def names(text): return text")
    monkeypatch.chdir(tmp_path)
    found = llmengine("replay", "--normalize", "matching_of_a_user:names", "tape.yaml")
    assert found.err.startswith("llmengine: no cassette at tape.yaml")
    for option in ("--normalize", "--match-on"):
        ran = llmengine("replay", option, "matching_of_a_user:other", "tape.yaml")
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "'matching_of_a_user:other' cannot be imported: " in ran.err
