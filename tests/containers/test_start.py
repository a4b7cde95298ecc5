"""Containers that start, and those that fail to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pytest_llmengine.targets import TargetError, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Engine

pytestmark = pytest.mark.docker


@pytest.mark.parametrize(
    ("backend", "server", "model"),
    [
        ("ollama_api", "Ollama 0.99.0-mock", "smollm2:135m"),
        ("vllm_api", "vLLM mock", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_engine_in_a_container_answers(
    contained: Callable[..., Engine], image: str, backend: str, server: str, model: str
) -> None:
    """The engine answers from its image, has its description, and is removed at the end."""
    engine = contained(backend)
    told: list[str] = []

    with open_session(engine.name, engine.settings, lambda what, *_: told.append(what)) as session:
        (container,) = engine.containers
        answer = session.engine.generate("Hi")[0].outputs[0].text
        described = session.describe()

    assert answer
    assert described.startswith("live at http://127.0.0.1:")
    assert f"{server} ({model}), docker image {image} (sha256:" in described
    assert f"starting {image}" in told
    assert (f"pulling model {model}" in told) == (backend == "ollama_api")
    assert container.labels["llmengine.model"] == model
    assert not engine.containers


def test_server_that_is_busy_at_first_is_waited_for(contained: Callable[..., Engine]) -> None:
    """A 503 is neither an answer nor an end: the server is ready when it answers one token."""
    engine = contained("vllm_api", "wakes")

    with open_session(engine.name, engine.settings) as session:
        assert session.engine.generate("Hi")[0].outputs[0].text


@pytest.mark.parametrize(
    ("backend", "model", "options", "words"),
    [
        ("vllm_api", "dies", {}, ["ended with status 1", "no kernel image is available"]),
        (
            "vllm_api",
            "sleeps",
            {"startup_timeout": 1},
            ["did not answer a token within 1 s", "raise --engine-startup-timeout"],
        ),
        (
            "ollama_api",
            "no-such-model",
            {},
            ["cannot pull the model 'no-such-model'", "file does not exist"],
        ),
    ],
)
def test_container_that_fails_says_why(
    contained: Callable[..., Engine],
    backend: str,
    model: str,
    options: dict[str, Any],
    words: list[str],
) -> None:
    """The error has the reason and the last log lines, and no container is left running."""
    engine = contained(backend, model, **options)

    with pytest.raises(TargetError) as raised, open_session(engine.name, engine.settings):
        pass

    for word in (engine.name, *words):
        assert word in str(raised.value)
    assert not engine.containers


def test_image_that_cannot_be_pulled(contained: Callable[..., Engine]) -> None:
    """The error has Docker's reason, at once."""
    engine = contained("ollama_api", image="127.0.0.1:9/nothing/here:1")

    with pytest.raises(TargetError) as raised, open_session(engine.name, engine.settings):
        pass

    assert "the image 127.0.0.1:9/nothing/here:1 is not on this machine" in str(raised.value)
    assert "connection refused" in str(raised.value)


def test_container_is_as_wanted_and_no_more(
    contained: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command, variables, port and volume are as documented; without a request there is no GPU."""
    monkeypatch.setenv("HF_TOKEN", "hf-not-a-real-one")
    engine = contained(
        "vllm_api", "tiny", args=["--max-model-len", 2048], env={"HF_TOKEN": None, "A": 1}
    )

    with open_session(engine.name, engine.settings):
        (container,) = engine.containers
    found = container.attrs
    (mount,) = found["Mounts"]
    volume = engine.client.volumes.get(mount["Name"])

    assert found["Config"]["Cmd"] == ["--model", "tiny", "--max-model-len", "2048"]
    assert {"HF_TOKEN=hf-not-a-real-one", "A=1", "HF_HOME=/models"} <= set(found["Config"]["Env"])
    assert [p["HostIp"] for ports in container.ports.values() for p in ports] == ["127.0.0.1"]
    assert (mount["Name"], mount["Destination"]) == ("llmengine-huggingface", "/models")
    assert volume.attrs["Labels"] == {"llmengine.cache": "1"}
    assert not found["HostConfig"]["DeviceRequests"]


def test_gpus_that_docker_does_not_have(contained: Callable[..., Engine]) -> None:
    """They are refused before an image is looked for, and the probe leaves nothing."""
    engine = contained("vllm_api", image="127.0.0.1:9/nothing/here:1", gpus="device=99")
    nameless = {"dangling": True}
    before = engine.client.images.list(filters=nameless)

    with pytest.raises(TargetError) as raised, open_session(engine.name, engine.settings):
        pass

    assert "Docker has no GPU for 'device=99'" in str(raised.value)
    assert engine.client.images.list(filters=nameless) == before


def test_server_that_dies_later_is_an_error_of_its_engine(
    contained: Callable[..., Engine],
) -> None:
    """A container that stops during a run is not silently started again."""
    engine = contained("vllm_api")

    with open_session(engine.name, engine.settings) as session:
        engine.containers[0].kill()
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{session.engine.root_url}/version", trust_env=False)
