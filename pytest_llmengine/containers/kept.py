"""Containers that are kept warm: they stay until they are stopped by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import docker_engine
from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.removal import ours, remove, sweep
from pytest_llmengine.containers.running import answering, start

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.progress import OnProgress
    from pytest_llmengine.containers.shared import Served
    from pytest_llmengine.containers.spec import ContainerSpec


def keep(spec: ContainerSpec, on_progress: OnProgress) -> Served:
    """A server that stays until `stop`; one that is there already is asked for a token.

    Raises ContainerError, also where the engine's kept server is another than is wanted now.
    """
    with docker_engine() as docker:
        sweep(docker)
        for container in kept(docker, spec.engine):
            if container.status == "exited":
                remove(container)
            elif is_same(container, spec):
                return answering(docker, container, spec, on_progress)
            else:
                raise ContainerError(
                    f"engine {spec.engine!r} is kept warm with another image, model or options "
                    f"than are wanted now; first `llmengine engines stop {spec.engine}`"
                )
        return start(docker, spec, "llmengine", {labels.KEPT: labels.YES}, on_progress)


def stop(engine: str) -> int:
    """Remove the kept container of an engine, and say how many there were."""
    with docker_engine() as docker:
        containers = kept(docker, engine)
        for container in containers:
            remove(container)
        return len(containers)


def kept(docker: DockerClient, engine: str) -> list[Container]:
    """The kept containers of an engine: one, or none."""
    return ours(docker, {labels.KEPT: labels.YES, labels.ENGINE: engine})


def is_same(container: Container, spec: ContainerSpec) -> bool:
    """Whether a container was started with just this."""
    return container.labels.get(labels.FINGERPRINT) == spec.fingerprint
