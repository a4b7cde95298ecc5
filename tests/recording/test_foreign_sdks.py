"""Recording and replay for other clients, each in a process of its own.

The installed openai SDK always runs. Others need environments of their own, because their pinned
versions conflict with the installed ones; set LLMENGINE_TEST_VENVS to a directory in which they are
made once: ``LLMENGINE_TEST_VENVS=~/.cache/llmengine-venvs pytest
tests/recording/test_foreign_sdks.py``
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from llmengine.mock import MockServer, Script
from pytest_llmengine.recording import RecordServer, ReplayServer

CLIENTS = Path(__file__).parent / "clients"
ANSWER = "Hellö 😀 world"
STEPS = ("whole", "stream", "error", "at_once")
PINS = {
    "openai-2": ("openai_sdk.py", ("openai==2.54.0",)),
    "litellm": ("litellm_sdk.py", ("litellm==1.106.2", "openai==2.54.0")),
}


@dataclass(frozen=True)
class Program:
    """A client script and the interpreter that has its SDK."""

    python: Path
    script: Path

    def run(self, base_url: str, *steps: str) -> subprocess.CompletedProcess[str]:
        """Run some steps of the script against an address."""
        environment = {
            name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ
        }
        return subprocess.run(
            [self.python, self.script, base_url, *steps],
            env=environment | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    def said(self, base_url: str, *steps: str) -> dict[str, Any]:
        """The output of a successful run."""
        done = self.run(base_url, *steps)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["openai-installed", *PINS])
def program(request: pytest.FixtureRequest) -> Program:
    """Each client in turn, in the environment that it needs."""
    if request.param == "openai-installed":
        pytest.importorskip("openai")
        return Program(Path(sys.executable), CLIENTS / "openai_sdk.py")
    script, pins = PINS[request.param]
    return Program(_python_with(request.param, pins), CLIENTS / script)


def _python_with(name: str, pins: tuple[str, ...]) -> Path:
    if "LLMENGINE_TEST_VENVS" not in os.environ:
        pytest.skip("needs an environment of its own: set LLMENGINE_TEST_VENVS to a directory")
    home = Path(os.environ["LLMENGINE_TEST_VENVS"]) / name
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *pins], check=True)
    return python


@pytest.fixture(scope="module")
def recording(
    program: Program, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A cassette of every step, and the client's output while it was recorded."""
    path = tmp_path_factory.mktemp("foreign") / "sdk.yaml"
    script = Script(replies=repeat(ANSWER))
    with (
        MockServer(script=script) as mock,
        RecordServer(mock.root_url) as recorder,
        recorder.cassette(path) as tape,
    ):
        said = program.said(f"{recorder.root_url}/v1", *STEPS)
    assert tape.unhandled == []
    return path, said


def test_a_client_gets_the_same_again(
    program: Program, recording: tuple[Path, dict[str, Any]]
) -> None:
    """JSON, streams, an error, sync and async, and no exchange is unused."""
    path, said = recording
    with ReplayServer() as player, player.cassette(path) as tape:
        assert program.said(f"{player.root_url}/v1", *STEPS) == said
    assert (tape.unhandled, tape.unused) == ([], [])
    assert "".join(said["stream"]) == said["whole"] == ANSWER
    assert said["at_once"] == [said["whole"], said["stream"]]
    assert "BadRequestError 400" in said["error"]


def test_a_client_is_not_disturbed_by_other_chunks(
    program: Program, recording: tuple[Path, dict[str, Any]]
) -> None:
    """An SDK reads the same from a stream that comes byte by byte."""
    path, said = recording
    with ReplayServer(rechunk="bytes") as player, player.cassette(path):
        assert program.said(f"{player.root_url}/v1", "stream")["stream"] == said["stream"]


def test_a_miss_is_one_call_and_a_failure(program: Program, path: Path) -> None:
    """No SDK retries it, and the user reads what was missing."""
    path.parent.mkdir()
    path.write_text("version: 1\ninteractions: []\n")
    with ReplayServer() as player, player.cassette(path) as tape:
        done = program.run(f"{player.root_url}/v1", "whole")
    assert done.returncode != 0
    assert "has no answer in" in done.stderr
    assert len(tape.unhandled) == 1
