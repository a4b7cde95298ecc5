"""Whatever a user gets wrong is one line that says what to do, and status 2."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from llmengine.mock import MockServer
from pytest_llmengine.contract.mutants.registry import mutants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def one_line(ran: Any) -> str:
    """The one line that a command said on standard error, once it is clear that it is all."""
    assert ran.status == 2, ran.err
    assert ran.out == ""
    assert ran.err.startswith("llmengine: ")
    assert ran.err.count("\n") == 1
    return str(ran.err)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LLMENGINE_API_KEY", "LLMENGINE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_unknown_engine(llmengine: Callable[..., Any]) -> None:
    """The names that exist are listed."""
    said = one_line(llmengine("verify", "--engine", "olama"))
    assert "'olama'" in said
    assert "ollama_api" in said


def test_unreachable_url(llmengine: Callable[..., Any]) -> None:
    """An address where nothing listens ends the run at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = one_line(llmengine("verify", "--url", url, "--model", "m"))
    assert f"nothing answers at {url}/v1" in said
    assert "start the server, or correct the address" in said


def test_wrong_url(llmengine: Callable[..., Any]) -> None:
    """What is no URL is said before anything is sent."""
    assert "'ftp://host'" in one_line(llmengine("verify", "--url", "ftp://host"))


def test_wrong_model(llmengine: Callable[..., Any]) -> None:
    """The models that the server has are listed."""
    with MockServer(model="right") as server:
        said = one_line(llmengine("verify", "--url", server.root_url, "--model", "wrong"))
    assert "has no model 'wrong'" in said
    assert "it has right" in said


def test_missing_key(llmengine: Callable[..., Any]) -> None:
    """The variable that the key belongs into is named."""
    with MockServer(api_key="sk-something") as server:
        said = one_line(llmengine("verify", "--url", server.root_url, "--model", "mock"))
    assert "401" in said
    assert "LLMENGINE_API_KEY" in said


@pytest.mark.parametrize("mode", ["live", "record"])
def test_missing_key_of_a_server_that_lists_its_models_to_anybody(
    llmengine: Callable[..., Any], mode: str
) -> None:
    """llama.cpp asks for the key only in a chat; that too ends the run before the first check."""
    open_list = next(m.behaviour for m in mutants() if m.check == "auth.models_protected")
    with MockServer(api_key="sk-something", behaviour=open_list) as server:
        said = one_line(
            llmengine("verify", "--url", server.root_url, "--model", "mock", "--mode", mode)
        )
    assert "401" in said
    assert "LLMENGINE_API_KEY" in said


def test_address_without_an_api(
    llmengine: Callable[..., Any], raw_server: Callable[[Any], Any]
) -> None:
    """A web server that knows none of the routes is no target."""
    web = raw_server(lambda request, connection: connection.reply(b"<html>", status=404))
    said = one_line(llmengine("verify", "--url", web.url, "--model", "m"))
    assert "has no /chat/completions (404)" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- name: [", "engines.yaml"),
        ("- {name: x, backend: nonsense, model: m}", "nonsense"),
        ("- {name: x, backend: mock, model: m, modle: n}", "modle"),
    ],
    ids=["broken", "backend", "field"],
)
def test_wrong_engines_file(
    llmengine: Callable[..., Any], tmp_path: Path, text: str, said: str
) -> None:
    """A broken file is said with its name and what is wrong in it."""
    path = tmp_path / "engines.yaml"
    path.write_text(text, encoding="utf-8")
    line = one_line(llmengine("verify", "--engine", "x", "--config", path))
    assert "engines.yaml" in line
    assert said in line


def test_missing_engines_file(llmengine: Callable[..., Any]) -> None:
    """A file that is not there is named."""
    assert "none.yaml" in one_line(llmengine("verify", "--engine", "x", "--config", "none.yaml"))


def test_missing_extra(program: Callable[..., Any], tmp_path: Path) -> None:
    """Without the native library, the line says what to install."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['xllamacpp'] = None\n", encoding="utf-8"
    )
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    said = one_line(program("verify", "--model", gguf, PYTHONPATH=path))
    assert "pytest-llmengine[embedded]" in said


@pytest.mark.parametrize("folder", ["", "there"])
def test_missing_cassettes(llmengine: Callable[..., Any], tmp_path: Path, folder: str) -> None:
    """A replay without recordings says how to record."""
    (tmp_path / "there" / "embedded").mkdir(parents=True)
    where = tmp_path / (folder or "nowhere")
    said = one_line(llmengine("verify", "--mode", "replay", "--cassettes", where))
    assert "no cassettes" in said
    assert "record" in said


def test_model_file_gone(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """A path that was a model yesterday is named."""
    said = one_line(llmengine("verify", "--model", tmp_path / "gone.gguf"))
    assert "gone.gguf does not exist" in said


def test_unknown_model_name(llmengine: Callable[..., Any]) -> None:
    """A name that is in no catalogue is answered with those that are."""
    said = one_line(llmengine("models", "pull", "gpt-5"))
    assert "'gpt-5'" in said
    assert "smollm2-135m" in said


def test_unknown_check(llmengine: Callable[..., Any]) -> None:
    """A check that does not exist is said before a server is asked."""
    said = one_line(llmengine("verify", "--engine", "mock", "--check", "chat.nonsense"))
    assert "'chat.nonsense'" in said
    assert "llmengine contract list" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml", "not TOML"),
        ("capabilities = ['telepathy']", "telepathy"),
        ("[[deviation]]\ncheck = 'x'", "'outcome' is missing"),
    ],
)
def test_wrong_profile(llmengine: Callable[..., Any], tmp_path: Path, text: str, said: str) -> None:
    """A wrong profile is said with the file, the entry and the field."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    line = one_line(llmengine("verify", "--engine", "mock", "--profile", path))
    assert "mine.toml" in line
    assert said in line


def test_missing_profile(llmengine: Callable[..., Any]) -> None:
    """A profile that is not there is named."""
    said = one_line(llmengine("verify", "--engine", "mock", "--profile", "none.toml"))
    assert "none.toml: No such file" in said


@pytest.mark.parametrize("name", ["report.xml", "nowhere/report.json"])
def test_impossible_report(llmengine: Callable[..., Any], name: str) -> None:
    """A report that could not be written is said before the run, not after it."""
    assert name in one_line(llmengine("verify", "--engine", "mock", "--report", name))
