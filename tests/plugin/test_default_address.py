"""A server at the usual address of its backend is found without configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from llmengine.config.backends import load_backend
from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable

OLLAMA = """
def test_ollama(ollama_engine):
    assert ollama_engine.generate("Hello")[0].outputs[0].text


def test_other():
    pass
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with one test on Ollama, and one that needs no engine."""
    pytester.makepyfile(test_it=OLLAMA)
    return pytester


@pytest.fixture
def usual(upstream: MockServer, monkeypatch: pytest.MonkeyPatch) -> MockServer:
    """A server at the usual address of Ollama and of vLLM."""
    for backend in ("ollama_api", "vllm_api"):
        monkeypatch.setattr(load_backend(backend), "default_endpoint", upstream.root_url)
    return upstream


def test_marker_is_all_that_it_takes(project: pytest.Pytester, usual: MockServer) -> None:
    """``pytest -m ollama`` uses the Ollama of this machine, and the header says so."""
    result = project.runpytest_inprocess("-m", "ollama")

    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [f"llmengine: ollama_api, live at {usual.base_url} (the default address), Ollama * (mock)*"]
    )


@pytest.mark.parametrize("name", ["ollama", "ollama_api", "vllm"])
def test_engine_is_named_as_its_marker_is(
    hello: pytest.Pytester, usual: MockServer, name: str
) -> None:
    """``--engine=ollama`` is ``--engine=ollama_api``."""
    result = hello.runpytest_inprocess(f"--engine={name}", "-m", name.removesuffix("_api"))

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("name", "meant"), [("olama", "ollama"), ("vlmm", "vllm"), ("openai_compatibel", "openai_com")]
)
def test_typing_error_is_understood(
    hello: pytest.Pytester, error_line: Callable[[pytest.RunResult], str], name: str, meant: str
) -> None:
    """The error suggests the right name."""
    assert f"did you mean {meant}" in error_line(hello.runpytest_inprocess(f"--engine={name}"))


def test_variable_goes_before_the_usual_address(
    project: pytest.Pytester, usual: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable wins, and the header names it."""
    with MockServer() as other:
        monkeypatch.setenv("OLLAMA_HOST", other.root_url)
        result = project.runpytest_inprocess("-m", "ollama")
        asked = len(other.calls)

    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines([f"* live at {other.base_url} (OLLAMA_HOST), *"])
    assert (asked > 0, usual.calls) == (True, [])


def test_recordings_go_before_the_usual_address(
    project: pytest.Pytester, usual: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a configured address the recordings are replayed."""
    project.runpytest_inprocess("-m", "ollama", "--engine-mode=record").assert_outcomes(
        passed=1, deselected=1
    )
    calls = len(usual.calls)

    result = project.runpytest_inprocess("-m", "ollama")

    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["llmengine: ollama_api, replayed from Ollama *"])
    assert len(usual.calls) == calls

    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    result = project.runpytest_inprocess("-m", "ollama")
    result.stdout.fnmatch_lines(["*nothing answers at http://127.0.0.1:9/v1 *--engine-mode=replay"])


def test_what_is_advised_about_models_works(
    project: pytest.Pytester, usual: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two models neither is chosen; both ways in the message work."""
    httpx.post(f"{usual.root_url}/api/pull", json={"model": "other"}).raise_for_status()

    result = project.runpytest_inprocess("-m", "ollama")
    result.assert_outcomes(errors=1, deselected=1)
    advice = "give --engine=ollama_api --engine-model=MODEL or set OLLAMA_MODEL; it has mock, other"
    result.stdout.fnmatch_lines([f"*has no model: {advice}*"])

    words = ["-m", "ollama", "--engine=ollama_api", "--engine-model=other"]
    project.runpytest_inprocess(*words).assert_outcomes(passed=1, deselected=1)
    monkeypatch.setenv("OLLAMA_MODEL", "mock")
    project.runpytest_inprocess("-m", "ollama").assert_outcomes(passed=1, deselected=1)

    monkeypatch.setenv("OLLAMA_MODEL", "no-such")
    result = project.runpytest_inprocess("-m", "ollama")
    result.stdout.fnmatch_lines(
        ["*no model 'no-such' *it has mock, other; *`ollama pull no-such`*"]
    )
