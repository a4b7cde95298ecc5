"""Every mistake of a user is one line that says what to do, without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Callable

    Told = Callable[[pytest.RunResult], str]


def test_unknown_engine(hello: pytest.Pytester, error_line: Told) -> None:
    """The error lists the backends and the names in the file."""
    entry = "- {name: qwen, backend: ollama_api, model: qwen2.5}\n"
    hello.path.joinpath("engines.yaml").write_text(entry)

    line = error_line(hello.runpytest_inprocess("--engine=olama", "--engine-config=engines.yaml"))

    assert "unknown engine 'olama'" in line
    assert "ollama_api" in line
    assert "engines.yaml has qwen" in line


def test_nothing_to_talk_to(hello: pytest.Pytester, error_line: Told) -> None:
    """Without an address and recordings the error names the three ways."""
    line = error_line(hello.runpytest_inprocess("--engine=ollama_api"))

    assert "Live: nothing answers at http://127.0.0.1:9; start the server there, give " in line
    assert "--engine-url=http://host:port or set LLMENGINE_URL or OLLAMA_API_URL" in line
    assert f"Replay: there are no cassettes in {hello.path / 'cassettes' / 'ollama_api'}" in line
    assert "pytest --engine=ollama_api --engine-mode=record --engine-url=URL" in line
    assert "Docker: --engine-mode=docker starts ollama/ollama:" in line


def test_vllm_with_nothing_configured(hello: pytest.Pytester, error_line: Told) -> None:
    """The error names the three ways: an address, a recording and a container."""
    line = error_line(hello.runpytest_inprocess("--engine=vllm_api"))

    assert "engine 'vllm_api' has neither an address nor a recording" in line
    live, replay, docker = line.index("Live: "), line.index("Replay: "), line.index("Docker: ")
    assert live < replay < docker
    for way in ("--engine-url=", "LLMENGINE_URL", "VLLM_BASE_URL", "llmengine_url (ini)"):
        assert way in line[live:replay]
    assert "pytest --engine=vllm_api --engine-mode=record" in line[replay:docker]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("replay", "cannot be replayed: there are no cassettes in"),
        ("live", "has no address: give --engine-url"),
        ("record", "has no address: give --engine-url"),
        ("docker", "is not run in a container; ollama_api and vllm_api are"),
    ],
)
def test_mode_that_cannot_be(
    hello: pytest.Pytester, error_line: Told, mode: str, words: str
) -> None:
    """A mode that was asked for and is not possible is never replaced by another."""
    result = hello.runpytest_inprocess("--engine=openai_compatible", f"--engine-mode={mode}")

    assert words in error_line(result)


def test_unreachable(hello: pytest.Pytester, error_line: Told) -> None:
    """The error names an address at which no server listens."""
    line = error_line(hello.runpytest_inprocess("--engine-url=http://127.0.0.1:9/v1"))

    assert "nothing answers at http://127.0.0.1:9/v1" in line
    assert "start the server, or correct the address" in line


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1", "is not an HTTP address"),
        ("http://user:geheim@127.0.0.1", "holds a name or a password"),
    ],
)
def test_wrong_address(hello: pytest.Pytester, error_line: Told, url: str, words: str) -> None:
    """An invalid address is refused, and a password in it is not repeated."""
    result = hello.runpytest_inprocess(f"--engine-url={url}")

    assert words in error_line(result)
    assert "geheim" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("key", "words"),
    [("", "asks for a key (401 "), ("sk-wrong-4711", "does not accept the key (401 ")],
)
def test_key(
    hello: pytest.Pytester, error_line: Told, monkeypatch: pytest.MonkeyPatch, key: str, words: str
) -> None:
    """A missing or wrong key: the error names the variable and not the key."""
    monkeypatch.setenv("LLMENGINE_API_KEY", key)

    with MockServer(api_key="sk-right-4711") as server:
        line = error_line(hello.runpytest_inprocess(f"--engine-url={server.base_url}"))

    assert words in line
    assert "LLMENGINE_API_KEY" in line
    assert "4711" not in line


def test_backends_key_is_for_another_address(
    hello: pytest.Pytester, error_line: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend's key is not sent to the run's address, and the line says which key is."""
    monkeypatch.setenv("VLLM_API_KEY", "sk-right-4711")

    with MockServer(api_key="sk-right-4711") as server:
        aim = ("--engine=vllm_api", f"--engine-url={server.base_url}")
        line = error_line(hello.runpytest_inprocess(*aim))

    assert "asks for a key (401 " in line
    assert "VLLM_API_KEY is sent to the address in VLLM_BASE_URL" in line
    assert "LLMENGINE_API_KEY (with --engine-url)" in line


def test_key_goes_to_its_own_host_alone(
    hello: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's key is for the run's address, not for one in the engines file."""
    monkeypatch.setenv("LLMENGINE_API_KEY", "sk-for-another-host")

    with MockServer() as server:
        entry = (
            "- {name: mine, backend: openai_compatible, model: mock, "
            f"endpoint: '{server.base_url}'}}\n"
        )
        hello.path.joinpath("engines.yaml").write_text(entry)
        hello.runpytest_inprocess("--engine=mine", "--engine-config=engines.yaml")
        headers = [{k.lower(): v for k, v in call.headers.items()} for call in server.calls]

    assert headers
    assert all("authorization" not in sent for sent in headers)


def test_wrong_model_of_an_engine_of_the_file(
    hello: pytest.Pytester, error_line: Told, upstream: MockServer
) -> None:
    """The advice names the engine, since ``--engine-model`` applies to it."""
    entry = f"- {{name: h100, backend: vllm_api, model: m, endpoint: '{upstream.base_url}'}}\n"
    hello.path.joinpath("engines.yaml").write_text(entry)

    line = error_line(hello.runpytest_inprocess("--engine-config=engines.yaml", "--engine=h100"))

    assert "give --engine=h100 --engine-model=MODEL or set VLLM_MODEL" in line


def test_wrong_model(hello: pytest.Pytester, error_line: Told, upstream: MockServer) -> None:
    """The error lists the models of the server."""
    line = error_line(
        hello.runpytest_inprocess(f"--engine-url={upstream.base_url}", "--engine-model=gpt-9")
    )

    assert "has no model 'gpt-9'" in line
    assert "it has mock" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- name: [", "not valid YAML"),
        ("- {name: mine, backend: mock, modell: x}", "engine 1 (mine): model"),
        ("name: mine", "an engines file is a list"),
    ],
)
def test_broken_engines_file(
    hello: pytest.Pytester, error_line: Told, text: str, words: str
) -> None:
    """The error has the file, the engine and the field."""
    hello.path.joinpath("engines.yaml").write_text(text)

    line = error_line(hello.runpytest_inprocess("--engine=mine", "--engine-config=engines.yaml"))

    assert "engines.yaml" in line
    assert words in line


def test_missing_engines_file(hello: pytest.Pytester, error_line: Told) -> None:
    """The error names the file."""
    line = error_line(hello.runpytest_inprocess("--engine=mine", "--engine-config=none.yaml"))

    assert "none.yaml" in line
    assert "cannot be read" in line


@pytest.mark.parametrize(
    ("name", "words"), [("report.txt", "must end in"), ("none/report.json", "no directory")]
)
def test_report_that_cannot_be_written(
    hello: pytest.Pytester, error_line: Told, name: str, words: str
) -> None:
    """The error of a wrong path comes before the run."""
    assert words in error_line(hello.runpytest_inprocess(f"--engine-report={name}"))


@pytest.mark.parametrize(
    ("fixture", "name"), [("ollama_engine", "ollama_api"), ("vllm_engine", "vllm_api")]
)
def test_engine_of_one_test(pytester: pytest.Pytester, fixture: str, name: str) -> None:
    """An engine that only some tests use fails these with one line, and not the run."""
    pytester.makepyfile(f"def test_it({fixture}): pass\ndef test_other(): pass")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"engine {name!r} has neither an address nor *Live: *Docker: *"])
    assert "Traceback" not in result.stdout.str()
