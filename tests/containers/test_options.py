"""The options of a container, and what is refused before Docker is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from llmengine import EngineConfig
from pytest_llmengine.containers.docker import ContainerError, device_request, docker_engine
from pytest_llmengine.containers.spec import spec_of
from pytest_llmengine.targets import Mode, Settings, TargetError, open_session

if TYPE_CHECKING:
    from pathlib import Path


def _config(backend: str = "vllm_api", **docker: Any) -> EngineConfig:
    return EngineConfig(name="mine", backend=backend, model="m", options={"docker": docker})


def test_official_images_are_pinned() -> None:
    """By default the image is the official one, with a version."""
    ollama = spec_of(EngineConfig(backend="ollama_api", model=""))
    vllm = spec_of(EngineConfig(backend="vllm_api", model=""), gpus="all")

    assert (ollama.image, ollama.model) == ("ollama/ollama:0.32.15", "smollm2:135m")
    assert vllm.image == "vllm/vllm-openai:v0.32.0"
    assert vllm.command == ("--model", vllm.model)


def test_run_goes_over_the_engines_file() -> None:
    """An option of the run wins over the file."""
    config = _config(image="of-the-file", gpus="1", startup_timeout=5)
    filed = spec_of(config)
    told = spec_of(config, image="of-the-run", gpus="all", startup_timeout=9)

    assert (filed.image, filed.gpus, filed.startup_timeout) == ("of-the-file", "1", 5)
    assert (told.image, told.gpus, told.startup_timeout) == ("of-the-run", "all", 9)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"startup_timeout": 5}, True),
        ({"image": "other"}, False),
        ({"args": ["--seed", "1"]}, False),
        ({"env": {"A": "1"}}, False),
        ({"gpus": "all"}, False),
    ],
)
def test_fingerprint_is_of_what_answers(change: dict[str, Any], same: bool) -> None:
    """Containers that would answer differently have different fingerprints."""
    base = spec_of(_config(image="i"))

    assert (spec_of(_config(**{"image": "i"} | change)).fingerprint == base.fingerprint) == same


@pytest.mark.parametrize(
    ("gpus", "asked"),
    [
        ("all", {"count": -1}),
        ("2", {"count": 2}),
        ("device=0,GPU-1", {"device_ids": ["0", "GPU-1"]}),
    ],
)
def test_gpus_are_written_as_for_docker_run(gpus: str, asked: dict[str, Any]) -> None:
    """All, a number, or devices by name."""
    assert device_request(gpus) == {"capabilities": [["gpu"]], **asked}


@pytest.mark.parametrize(
    ("docker", "words"),
    [
        ("an image", "write a mapping"),
        ({"picture": "x"}, "'picture' is unknown; known are image, gpus"),
        ({"image": "x", "args": "--seed 1"}, "args is '--seed 1'; give a list"),
        ({"image": "x", "env": ["A=1"]}, "give a mapping"),
        ({"image": "x", "env": {"NOT_SET_ANYWHERE": None}}, "NOT_SET_ANYWHERE is to be copied"),
        ({"image": "x", "startup_timeout": "long"}, "give a number"),
        ({"image": "x", "startup_timeout": 0}, "give seconds above 0"),
        ({"image": "x", "gpus": "some"}, "write all, a number, or device=0,1"),
        ({}, "vllm/vllm-openai:v0.32.0 needs a GPU"),
    ],
)
def test_wrong_options_are_refused_without_docker(tmp_path: Path, docker: Any, words: str) -> None:
    """An invalid option is a one-line error before anything is started."""
    file = tmp_path / "engines.yaml"
    entry = {"name": "mine", "backend": "vllm_api", "model": "m", "options": {"docker": docker}}
    file.write_text(yaml.safe_dump([entry]))
    settings = Settings(engines=("mine",), config=file, mode=Mode.DOCKER)

    with pytest.raises(TargetError) as raised, open_session("mine", settings):
        pass

    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("backend", "url", "words"),
    [
        ("mock", None, "backend 'mock' is not run in a container; ollama_api and vllm_api are"),
        ("ollama_api", "http://127.0.0.1:9", "leave one of the two out"),
    ],
)
def test_invalid_combinations(backend: str, url: str | None, words: str) -> None:
    """A backend without a container, and an address beside one."""
    settings = Settings(engines=(backend,), url=url, mode=Mode.DOCKER)

    with pytest.raises(TargetError) as raised, open_session(backend, settings):
        pass

    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unix:///nowhere.sock", "does not answer at unix:///nowhere.sock (No such file"),
        ("tcp://127.0.0.1:9", "does not answer at tcp://127.0.0.1:9"),
        ("tcp://build.example.org:2375", "is on another machine"),
        ("ssh://me@build.example.org", "is on another machine"),
        ("nonsense", "does not answer at nonsense"),
    ],
)
def test_missing_docker_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, host: str, words: str
) -> None:
    """If Docker is missing or not running, one line says so, and what to do."""
    monkeypatch.setenv("DOCKER_HOST", host)

    with pytest.raises(ContainerError) as raised, docker_engine():
        pass

    assert words in str(raised.value)
