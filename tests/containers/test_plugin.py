"""``--engine-mode=docker`` in a run of pytest, and in ``llmengine verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Engine

_HELLO = """
def test_hello(engine):
    assert engine.generate("Hi")[0].outputs[0].text
"""


@pytest.mark.docker
def test_recording_of_a_container_says_so(
    contained: Callable[..., Engine], pytester: pytest.Pytester, image: str
) -> None:
    """A container can be recorded; the replay needs no Docker and names the image."""
    engine = contained("ollama_api")
    pytester.makepyfile(test_hello=_HELLO)
    aimed = (f"--engine={engine.name}", f"--engine-config={engine.file}")

    recorded = pytester.runpytest_subprocess(
        *aimed, "--engine-mode=record", f"--engine-image={image}"
    )
    replayed = pytester.runpytest_subprocess(*aimed)

    recorded.assert_outcomes(passed=1)
    recorded.stdout.fnmatch_lines(
        [
            f"llmengine: starting {image}",
            "llmengine: pulling model smollm2:135m",
            f"llmengine: {engine.name}, recording from *, docker image {image} (sha256:*",
        ]
    )
    replayed.assert_outcomes(passed=1)
    replayed.stdout.fnmatch_lines(
        [f"llmengine: {engine.name}, replayed from Ollama *, docker image {image} (*), recorded *"]
    )
    assert not engine.containers


@pytest.mark.docker
@pytest.mark.parametrize("backend", ["ollama_api", "vllm_api"])
def test_contract_on_a_container(
    contained: Callable[..., Engine],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    backend: str,
) -> None:
    """The smoke tier passes on the mock in a container, and the report names the image."""
    engine = contained(backend)
    profile, report = tmp_path / "profile.toml", tmp_path / "report.md"
    profile.write_text(f'engine = "{backend}"\n')

    status = main(
        [
            *("verify", "--engine", engine.name, "--config", str(engine.file)),
            *("--mode", "docker", "--tier", "smoke"),
            *("--profile", str(profile), "--report", str(report)),
        ]
    )

    assert status == 0, capsys.readouterr()
    assert "docker image llmengine-mock:test" in report.read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine-image=i", "--engine-mode=docker"], "name that engine with --engine"),
        (
            ["--engine-image=i", "--engine=ollama_api"],
            "needs --engine-mode=docker or --engine-mode",
        ),
        (["--engine-startup-timeout=0"], "give seconds above 0"),
        (["--engine=vllm_api", "--engine-mode=docker"], "needs a GPU"),
        (["--engine=vllm_api"], "--engine-mode=docker --engine-gpus=all starts vllm/vllm-openai:"),
    ],
)
def test_wrong_options_end_the_run(
    pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    """An invalid option is an error before any test runs."""
    pytester.makepyfile(_HELLO)

    result = pytester.runpytest_inprocess(*arguments)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


def test_startup_timeout_of_the_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a wrong number names its variable."""
    monkeypatch.setenv("LLMENGINE_STARTUP_TIMEOUT", "soon")
    pytester.makepyfile(_HELLO)

    result = pytester.runpytest_inprocess("--engine=mock")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "LLMENGINE_STARTUP_TIMEOUT is 'soon'; give seconds above 0" in result.stderr.str()


def test_image_without_a_container_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An image from which nothing would run is an error."""
    assert main(["verify", "--engine", "ollama_api", "--image", "i"]) == 2
    assert "goes with --mode docker" in capsys.readouterr().err
