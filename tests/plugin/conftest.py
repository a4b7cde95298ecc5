"""Inner runs of pytest, with a mock server."""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

import llmengine
import pytest_llmengine
from llmengine.config.backends import load_backend
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NO_SERVER = "http://127.0.0.1:9"  # no server answers there on any machine
_OURS = ("LLMENGINE_", "OLLAMA_", "VLLM_", "OPENAI_")

# An inner run in this process removes the modules that it imported first. If they are imported
# again, their classes are not those that this process has. Integrations are left out, because
# each needs a framework and no inner run uses one.
for _package in (llmengine, pytest_llmengine):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if (
            _module.name.endswith(("__main__", ".test_contract", ".test_parity"))
            or ".integrations." in _module.name
        ):
            continue
        import_module(_module.name)

HELLO = """
def test_hello(engine):
    answer = engine.generate(["Say hello."])[0].outputs[0].text
    assert answer
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of the developer's shell that engines read."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    for backend in ("ollama_api", "vllm_api"):
        monkeypatch.setattr(load_backend(backend), "default_endpoint", _NO_SERVER)


@pytest.fixture
def upstream() -> Iterator[MockServer]:
    """A server for the runs."""
    with MockServer() as server:
        yield server


@pytest.fixture
def record(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Runs the project's tests through the recorder, for a server that is gone afterwards."""

    def run(*arguments: str) -> pytest.RunResult:
        with MockServer() as server:
            return pytester.runpytest_inprocess(
                "--engine=openai_compatible",
                f"--engine-url={server.base_url}",
                "--engine-mode=record",
                *arguments,
            )

    return run


@pytest.fixture
def hello(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with one test that calls an engine."""
    pytester.makepyfile(test_hello=HELLO)
    return pytester


@pytest.fixture
def error_line() -> Callable[[pytest.RunResult], str]:
    """The line with which a run ended, checked to be the only one, without a traceback."""

    def line(result: pytest.RunResult) -> str:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        text = result.stderr.str().strip()
        assert text.startswith("ERROR: ")
        assert "\n" not in text
        assert "Traceback" not in result.stdout.str()
        return text

    return line
