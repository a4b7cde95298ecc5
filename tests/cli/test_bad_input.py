"""Every mistake of a user is one line that says what to do, and status 2."""

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
    """The line on standard error, after a check that it is the only output."""
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
    """The error lists the names."""
    said = one_line(llmengine("verify", "--engine", "olama"))
    assert "'olama'" in said
    assert "ollama_api" in said


def test_unreachable_url(llmengine: Callable[..., Any]) -> None:
    """An address without a server ends the run at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = one_line(llmengine("verify", "--url", url, "--model", "m"))
    assert f"nothing answers at {url}/v1" in said
    assert "start the server, or correct the address" in said


def test_wrong_url(llmengine: Callable[..., Any]) -> None:
    """An invalid URL is an error before anything is sent."""
    assert "'ftp://host'" in one_line(llmengine("verify", "--url", "ftp://host"))


def test_wrong_model(llmengine: Callable[..., Any]) -> None:
    """The error lists the models of the server."""
    with MockServer(model="right") as server:
        said = one_line(llmengine("verify", "--url", server.root_url, "--model", "wrong"))
    assert "has no model 'wrong'" in said
    assert "it has right" in said


def test_missing_key(llmengine: Callable[..., Any]) -> None:
    """The error names the variable for the key."""
    with MockServer(api_key="sk-something") as server:
        said = one_line(llmengine("verify", "--url", server.root_url, "--model", "mock"))
    assert "401" in said
    assert "LLMENGINE_API_KEY" in said


@pytest.mark.parametrize("mode", ["live", "record"])
def test_missing_key_of_a_server_that_lists_its_models_without_one(
    llmengine: Callable[..., Any], mode: str
) -> None:
    """llama.cpp asks for the key only in a chat; that ends the run before the first check too."""
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
    """A web server that has none of the routes is not a target."""
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
    """The error has the file and what is wrong in it."""
    path = tmp_path / "engines.yaml"
    path.write_text(text, encoding="utf-8")
    line = one_line(llmengine("verify", "--engine", "x", "--config", path))
    assert "engines.yaml" in line
    assert said in line


def test_missing_engines_file(llmengine: Callable[..., Any]) -> None:
    """The error names the file."""
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
    """The error of a replay without recordings says how to record."""
    (tmp_path / "there" / "embedded").mkdir(parents=True)
    where = tmp_path / (folder or "nowhere")
    said = one_line(llmengine("verify", "--mode", "replay", "--cassettes", where))
    assert "no cassettes" in said
    assert "record" in said


def test_model_file_gone(llmengine: Callable[..., Any], tmp_path: Path) -> None:
    """The error names the path."""
    said = one_line(llmengine("verify", "--model", tmp_path / "gone.gguf"))
    assert "gone.gguf does not exist" in said


def test_unknown_model_name(llmengine: Callable[..., Any]) -> None:
    """The error lists the names of the catalogue."""
    said = one_line(llmengine("models", "pull", "gpt-5"))
    assert "'gpt-5'" in said
    assert "smollm2-135m" in said


def test_unknown_check(llmengine: Callable[..., Any]) -> None:
    """The error comes before any request."""
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
    """The error has the file, the entry and the field."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    line = one_line(llmengine("verify", "--engine", "mock", "--profile", path))
    assert "mine.toml" in line
    assert said in line


def test_missing_profile(llmengine: Callable[..., Any]) -> None:
    """The error names the profile."""
    said = one_line(llmengine("verify", "--engine", "mock", "--profile", "none.toml"))
    assert "none.toml: No such file" in said


@pytest.mark.parametrize("name", ["report.yaml", "nowhere/report.json"])
def test_impossible_report(llmengine: Callable[..., Any], name: str) -> None:
    """A report that cannot be written is an error before the run."""
    assert name in one_line(llmengine("verify", "--engine", "mock", "--report", name))
