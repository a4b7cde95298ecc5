"""One container per run: its workers share it, and its end or the next run removes it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.container import ContainerServer, start_once
from pytest_llmengine.containers.docker import ContainerError
from pytest_llmengine.containers.ownership import (
    Owner,
    containers_with,
    end_run,
    folder_of,
    remove,
    remove_abandoned,
)
from pytest_llmengine.targets import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from docker import DockerClient

    from conftest import Engine

pytestmark = pytest.mark.docker

_RUN = """
import sys
from pathlib import Path
from pytest_llmengine.targets import Mode, Settings, open_session

name, file = sys.argv[1:]
with open_session(name, Settings(engines=(name,), config=Path(file), mode=Mode.DOCKER)):
    print("up", flush=True)
    sys.stdin.read()
"""

_TESTS = """
import os, pathlib, time, pytest

@pytest.mark.parametrize("place", [1, 2])
def test_both_workers_answer(engine, place):
    here = pathlib.Path(__file__).parent
    (here / f"{os.environ['PYTEST_XDIST_WORKER']}.url").write_text(engine.base_url)
    assert engine.generate("Hi")[0].outputs[0].text
    while len(list(here.glob("*.url"))) < 2:  # or one worker would take both tests
        time.sleep(0.05)
"""


@contextmanager
def _other_run(engine: Engine) -> Iterator[subprocess.Popen[str]]:
    """Another process with a run of its own, when its engine answers."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUN, engine.name, str(engine.file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def _is_gone(client: DockerClient, owner: Owner) -> bool:
    """Whether no container of the run is left; another run may be removing one."""
    deadline = time.monotonic() + 20
    while containers_with(client, {labels.RUN: owner.run}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not containers_with(client, {labels.RUN: owner.run})


def test_killed_run_is_cleaned_up_by_the_next(
    contained: Callable[..., Engine], client: DockerClient
) -> None:
    """Kill -9 leaves a container and a folder, which the next run of another engine removes."""
    killed, next_one = contained("vllm_api"), contained("vllm_api", "other")

    with _other_run(killed) as process:
        process.kill()
        process.wait()
        (left,) = killed.containers
        owner = Owner.from_labels(left.labels)
        assert owner is not None
        assert left.status == "running"
        assert folder_of(owner).exists()

    with open_session(next_one.name, next_one.settings):
        assert _is_gone(client, owner)
        assert not folder_of(owner).exists()
        assert next_one.containers


def test_living_runs_are_left_alone(
    contained: Callable[..., Engine], client: DockerClient, image: str
) -> None:
    """A run removes neither a container of a run that lives nor one of another program."""
    living, next_one = contained("vllm_api"), contained("vllm_api", "other")
    foreign = client.containers.create(image, ["--model", "foreign"])
    try:
        with _other_run(living) as process, open_session(next_one.name, next_one.settings):
            assert [c.status for c in living.containers] == ["running"]
            assert client.containers.get(foreign.id)
            process.communicate("")
        assert not living.containers
        assert client.containers.get(foreign.id)
    finally:
        foreign.remove()


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"pid": 2**22 + 1}, False),
        ({"started": "1"}, False),
        ({"host": "elsewhere", "pid": 2**22 + 1}, True),
        ({"boot": "an earlier start", "pid": 2**22 + 1}, True),
    ],
    ids=["dead", "number used again", "other machine", "other start, running"],
)
def test_containers_of_dead_owners(
    client: DockerClient, image: str, change: dict[str, object], stays: bool
) -> None:
    """Only containers whose owner is known to be dead are removed."""
    owner = replace(Owner.here(), **change)
    left = client.containers.run(
        image, ["--model", "sleeps"], labels=owner.to_labels(), detach=True
    )

    remove_abandoned(client)

    if stays:
        assert [c.id for c in containers_with(client, {labels.RUN: owner.run})] == [left.id]
        remove(left)
    else:
        assert _is_gone(client, owner)


def test_containers_of_an_earlier_start_of_the_machine(client: DockerClient, image: str) -> None:
    """After a restart the containers have stopped, and process ids mean nothing."""
    owner = replace(Owner.here(), boot="an earlier start")
    left = client.containers.run(image, ["--model", "dies"], labels=owner.to_labels(), detach=True)
    left.wait()

    remove_abandoned(client)

    assert _is_gone(client, owner)


def test_workers_share_one_container(
    contained: Callable[..., Engine], pytester: pytest.Pytester
) -> None:
    """Both workers of pytest-xdist get one address; the run's end removes the container."""
    engine = contained("vllm_api")
    pytester.makepyfile(_TESTS)

    result = pytester.runpytest_subprocess(
        "-n2", f"--engine={engine.name}", f"--engine-config={engine.file}", "--engine-mode=docker"
    )

    addresses = [file.read_text() for file in pytester.path.glob("*.url")]
    result.assert_outcomes(passed=2)
    assert len(addresses) == 2
    assert addresses[0] == addresses[1]
    assert not engine.containers


def test_failure_is_shared_too(tmp_path: Path) -> None:
    """Later processes get the error of the first one without another attempt."""
    tried = []

    def start() -> ContainerServer:
        tried.append(1)
        raise ContainerError("no such image")

    for _ in range(2):
        with pytest.raises(ContainerError, match="no such image"):
            start_once(tmp_path, "engine", start)

    assert len(tried) == 1


def test_interrupted_start_is_repeated(tmp_path: Path) -> None:
    """If a process ends during its start, another one tries."""

    def interrupted() -> ContainerServer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_once(tmp_path, "engine", interrupted)

    served = ContainerServer("id", "http://127.0.0.1:1", "image")
    assert start_once(tmp_path, "engine", lambda: served) == served
    assert start_once(tmp_path, "engine", interrupted) == served


def test_run_without_containers_ends_without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that started no container does not call Docker at its end."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")

    end_run(Owner.here())
