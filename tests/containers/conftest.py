"""A real Docker for the tests, with an image in place of Ollama's and vLLM's.

A daemon that answers is used. If none does and the user is root, one is started with folders of its
own. All workers of a run share it, and it ends with the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml
from filelock import FileLock

from pytest_llmengine.containers.docker import ContainerError, docker_engine
from pytest_llmengine.targets import Mode, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker import DockerClient
    from docker.models.containers import Container

IMAGE = "llmengine-mock:test"
ROOTFS = Path(__file__).with_name("image") / "rootfs.py"
OURS = ("LLMENGINE_", "OLLAMA_", "VLLM_", "OPENAI_", "HOSTED_VLLM_")
STARTUP_SECONDS = 30
WATCHED = Path(__file__).with_name("watched.sh")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the variables of the developer's shell that engines read."""
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """The address of a daemon that has the image; None means the usual one."""
    if find_spec("docker") is None:
        pytest.skip("the docker SDK is missing; run: pip install 'pytest-llmengine[docker]'")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if worker else base) / "docker"
    shared.mkdir(exist_ok=True)
    user = shared / f"{worker or 'main'}.user"
    with FileLock(shared / "lock"):
        host = _host(shared)
        user.touch()
    yield host
    with FileLock(shared / "lock"):
        user.unlink()
        if not list(shared.glob("*.user")):
            _clean(host)


def _host(shared: Path) -> str | None:
    """What the first worker found or started."""
    known = shared / "host"
    if not known.exists():
        host = None if _answers(None) else _start()
        with closing(_client(host)) as client:
            _build(client)
        known.write_text(host or "")
    return known.read_text() or None


def _client(host: str | None) -> DockerClient:
    import docker  # noqa: PLC0415 - an extra

    return docker.DockerClient(host) if host else docker.from_env()


def _answers(host: str | None) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        if host is not None:
            patch.setenv("DOCKER_HOST", host)
        try:
            with docker_engine() as client:
                return bool(client.ping())
        except ContainerError:
            return False


def _start() -> str:
    dockerd = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if dockerd is None or os.geteuid() != 0:
        pytest.skip(
            "no Docker answers; start it, or for tests as root run: apt-get install -y docker.io"
        )
    # The address of a socket must be short, so pytest's own folder cannot be used.
    folder = Path(tempfile.mkdtemp(prefix="dockerd-"))
    host = f"unix://{folder}/socket"
    command = [
        *(dockerd, f"--host={host}", f"--pidfile={folder}/pid"),
        *(f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
        # Docker's proxy alone publishes ports, so that the machine's firewall is not changed.
        *("--iptables=false", "--ip6tables=false"),
    ]
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    with (folder / "log").open("w") as log:
        shell = ["sh", "-c", 'sh "$@" &', "sh", WATCHED, str(run), folder, *command]
        subprocess.run(shell, stdout=log, stderr=log, start_new_session=True, check=True)
    if not _within_seconds(STARTUP_SECONDS, lambda: _answers(host)):
        last = (folder / "log").read_text().splitlines()[-1:]
        pytest.skip(f"dockerd does not start here: {' '.join(last)}")
    return host


def _build(client: DockerClient) -> None:
    """Make the image of the mock server, which has no base image and so needs no registry."""
    entry = f'ENTRYPOINT ["{Path(sys.executable).resolve()}", "/app/serve.py"]'
    with subprocess.Popen([sys.executable, ROOTFS], stdout=subprocess.PIPE) as tar:
        client.api.import_image_from_stream(
            tar.stdout,
            repository=IMAGE.partition(":")[0],
            tag=IMAGE.partition(":")[2],
            changes=[entry, "ENV PYTHONPATH=/app"],
        )
    assert tar.returncode == 0


def _clean(host: str | None) -> None:
    """Remove the tests' images and containers from a Docker that was running before."""
    if host is None:
        with closing(_client(host)) as client:
            client.images.remove(IMAGE, force=True)


def _within_seconds(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.05)
    return False


@dataclass(frozen=True)
class Engine:
    """An engine of the test, whose name shows which containers are its own."""

    name: str
    backend: str
    settings: Settings
    client: DockerClient

    @property
    def file(self) -> Path:
        """The engines file that has it."""
        assert self.settings.config is not None
        return self.settings.config

    @property
    def containers(self) -> list[Container]:
        """Its containers, running or not."""
        label = {"label": f"llmengine.engine={self.name}"}
        found: list[Container] = self.client.containers.list(all=True, filters=label)
        return found


@pytest.fixture
def client(_docker_host: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerClient]:
    """Docker, which the code under test finds too."""
    if _docker_host is not None:
        monkeypatch.setenv("DOCKER_HOST", _docker_host)
    with closing(_client(_docker_host)) as opened:
        yield opened


@pytest.fixture
def image(client: DockerClient) -> str:
    """The image of the mock server."""
    assert client.images.get(IMAGE)
    return IMAGE


@pytest.fixture
def contained(client: DockerClient, image: str, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Makes an engine that runs in a container of the mock's image, and removes the container."""
    made: list[Engine] = []

    def make(backend: str, model: str = "", **options: Any) -> Engine:
        name = f"e{uuid4().hex[:8]}"
        entry = {
            "name": name,
            "backend": backend,
            "model": model,
            "max_retries": 0,
            "options": {"docker": {"image": image, **options}},
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump([entry]))
        settings = Settings(engines=(name,), config=file, mode=Mode.DOCKER)
        made.append(Engine(name, backend, settings, client))
        return made[-1]

    yield make
    for engine in made:
        for container in engine.containers:
            container.remove(force=True)
