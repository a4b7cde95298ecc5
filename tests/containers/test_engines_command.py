"""``llmengine engines``: list, check, warmup and stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from llmengine.mock import Fault, MockServer, Script
from pytest_llmengine.cli import main
from pytest_llmengine.targets import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Engine


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command; returns its status and its output."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["engines", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out + err

    return run


@pytest.mark.docker
def test_warm_container_stays_until_it_is_stopped(
    contained: Callable[..., Engine], run_command: Callable[..., tuple[int, str]]
) -> None:
    """It is listed, checked, kept by a second warm-up and used by runs; then it is stopped."""
    engine = contained("ollama_api")
    of_file = ("--config", engine.file)

    status, out = run_command("warmup", engine.name, *of_file)
    (container,) = engine.containers
    address = out.split()[-1] if "http" not in out else next(w for w in out.split() if "http" in w)
    listed = run_command("list", *of_file)[1]
    checked = run_command("check", *of_file)
    again = run_command("warmup", engine.name, *of_file)
    other = run_command("warmup", engine.name, *of_file, "--model", "other")
    with open_session(engine.name, engine.settings) as session:
        used = session.engine.root_url

    assert status == 0
    assert f"running at {address}, kept warm" in listed
    assert checked[0] == 0
    assert "yes, in " in checked[1]
    assert f"Ollama 0.99.0-mock (smollm2:135m) at {address}/v1" in checked[1]
    assert (again[0], address in again[1]) == (0, True)
    assert (other[0], f"engines stop {engine.name}" in other[1]) == (2, True)
    assert used == address
    assert [c.id for c in engine.containers] == [container.id]
    assert run_command("stop", engine.name)[0] == 0
    assert not engine.containers
    assert run_command("stop", engine.name)[0] == 2


@pytest.mark.docker
def test_failed_warmup_leaves_nothing(
    contained: Callable[..., Engine], run_command: Callable[..., tuple[int, str]]
) -> None:
    """The last log lines of the container are printed, one per line."""
    engine = contained("vllm_api", "dies")

    status, text = run_command("warmup", engine.name, "--config", engine.file)

    assert status == 2
    assert "\n  RuntimeError: no kernel image" in text
    assert not engine.containers


def _file(folder: Path, **fields: object) -> Path:
    file = folder / "engines.yaml"
    file.write_text(yaml.safe_dump([{"name": "cloud", "backend": "vllm_api", **fields}]))
    return file


@pytest.mark.parametrize("model", ["mock", ""])
def test_sleeping_server_is_woken(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]], model: str
) -> None:
    """The command waits for a server that answers 503 first, also to get the name of its model."""
    asleep = Script(faults=[Fault(status=503)] * 3)
    with MockServer(script=asleep) as server:
        file = _file(tmp_path, model=model, endpoint=server.root_url)
        status, text = run_command("warmup", "cloud", "--config", file)

    assert (status, server.root_url in text) == (0, True)
    assert len(server.calls) > 3


def test_server_that_does_not_wake_is_given_up(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    """The wait has the given limit."""
    with MockServer(script=Script(faults=[Fault(status=503)] * 1000)) as server:
        file = _file(tmp_path, model="mock", endpoint=server.root_url)
        status, text = run_command("warmup", "cloud", "--config", file, "--startup-timeout", 0.2)

    assert status == 2
    assert "did not wake within 0.2 s" in text


def test_check_fails_if_one_engine_does_not_answer(
    tmp_path: Path, run_command: Callable[..., tuple[int, str]]
) -> None:
    """One such engine fails the command; a sleeping one is not waited for."""
    with MockServer() as good, MockServer(script=Script(faults=[Fault(status=503)] * 99)) as asleep:
        entries = [
            {"name": "good", "backend": "openai_compatible", "endpoint": good.root_url},
            {"name": "asleep", "backend": "openai_compatible", "endpoint": asleep.root_url},
            {"name": "gone", "backend": "openai_compatible", "endpoint": "http://127.0.0.1:9"},
        ]
        file = tmp_path / "engines.yaml"
        file.write_text(yaml.safe_dump([e | {"model": "mock", "cold_start": 60} for e in entries]))
        status, text = run_command("check", "--config", file)
        alone = run_command("check", "good", "--config", file)

    lines = text.splitlines()
    assert status == 1
    assert lines[1].startswith("good")
    assert "yes, in " in lines[1]
    assert "503" in lines[2]
    assert "nothing answers at http://127.0.0.1:9" in lines[3]
    assert alone[0] == 0


def test_list_says_where_addresses_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_command: Callable[..., tuple[int, str]]
) -> None:
    """Every engine has a row; a missing Docker is mentioned once."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9999")
    file = _file(tmp_path, model="m", endpoint="http://example.org:1")

    bare, of_file = run_command("list")[1], run_command("list", "--config", file)[1]

    rows = {line.split()[0]: " ".join(line.split()) for line in bare.splitlines()}
    assert rows["ollama_api"] == "ollama_api ollama_api http://127.0.0.1:9999 OLLAMA_HOST - none"
    assert rows["vllm_api"].endswith("http://localhost:8000/v1 default - none")
    assert rows["mock"] == "mock mock its own server - mock -"
    assert "containers are not listed: Docker does not answer" in bare
    assert "cloud vllm_api http://example.org:1 the engines file m" in " ".join(of_file.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["warmup", "vllm_api"], "vllm/vllm-openai:v0.32.0 needs a GPU"),
        (["warmup", "embedded"], "it has no server to keep running"),
        (["warmup", "nobody"], "unknown engine 'nobody'"),
        (["check"], "name the engines, or give an engines file"),
    ],
)
def test_invalid_arguments(
    run_command: Callable[..., tuple[int, str]], arguments: list[str], words: str
) -> None:
    """One line says what is wrong."""
    status, text = run_command(*arguments)

    assert status == 2
    assert words in text
