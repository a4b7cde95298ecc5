"""Containers that answer: for one run, or kept until they are stopped by name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import docker_engine
from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.first_token import wait_for_token
from pytest_llmengine.containers.gpus import check_gpus
from pytest_llmengine.containers.images import image_named, shown
from pytest_llmengine.containers.launch import launch
from pytest_llmengine.containers.ollama import ensure_model
from pytest_llmengine.containers.progress import silent
from pytest_llmengine.containers.removal import ours, remove, sweep
from pytest_llmengine.containers.shared import Served, once
from pytest_llmengine.containers.starting import Starting

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.owner import Owner
    from pytest_llmengine.containers.progress import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec

_KEPT = "1"


def serve(spec: ContainerSpec, owner: Owner, on_progress: OnProgress = silent) -> Served:
    """A server for this run: the one that is kept warm, if it is the same, else the run's own.

    The processes of a run share one. What killed runs left behind is removed first. Raises
    ContainerError. `end_run` takes the run's own container away.
    """
    with docker_engine() as docker:
        sweep(docker)
        for container in _kept(docker, spec.engine):
            if container.status == "running" and _is_same(container, spec):
                return _answering(docker, container, spec, on_progress)
        start = partial(_start_for_run, docker, spec, owner, on_progress)
        served = once(owner.folder, spec.fingerprint, start)
        Starting(docker.containers.get(served.container), spec).check_alive()
        return served


def keep(spec: ContainerSpec, on_progress: OnProgress = silent) -> Served:
    """A server that stays until `stop`; one that is there already is asked for a token.

    Raises ContainerError, also where the engine's kept server is another than is wanted now.
    """
    with docker_engine() as docker:
        sweep(docker)
        for container in _kept(docker, spec.engine):
            if container.status == "exited":
                remove(container)
            elif _is_same(container, spec):
                return _answering(docker, container, spec, on_progress)
            else:
                raise ContainerError(
                    f"engine {spec.engine!r} is kept warm with another image, model or options "
                    f"than are wanted now; first `llmengine engines stop {spec.engine}`"
                )
        return _start(docker, spec, "llmengine", {labels.KEPT: _KEPT}, on_progress)


def stop(engine: str) -> int:
    """Remove the kept container of an engine, and say how many there were."""
    with docker_engine() as docker:
        containers = _kept(docker, engine)
        for container in containers:
            remove(container)
        return len(containers)


def _kept(docker: DockerClient, engine: str) -> list[Container]:
    return ours(docker, {labels.KEPT: _KEPT, labels.ENGINE: engine})


def _is_same(container: Container, spec: ContainerSpec) -> bool:
    return container.labels.get(labels.FINGERPRINT) == spec.fingerprint


def _start_for_run(
    docker: DockerClient, spec: ContainerSpec, owner: Owner, on_progress: OnProgress
) -> Served:
    # A worker that was killed while it started one has left it, and the run is still alive.
    mine = {labels.RUN: owner.run, labels.FINGERPRINT: spec.fingerprint}
    for container in ours(docker, mine):
        remove(container)
    return _start(docker, spec, f"llmengine-{owner.run[:8]}", owner.to_labels(), on_progress)


def _start(
    docker: DockerClient,
    spec: ContainerSpec,
    prefix: str,
    owner: dict[str, str],
    on_progress: OnProgress,
) -> Served:
    if spec.gpus is not None:
        check_gpus(docker, spec.gpus)
    image_named(docker, spec.image, on_progress)
    container = launch(docker, spec, prefix, owner)
    try:
        return _answering(docker, container, spec, on_progress)
    except BaseException:
        remove(container)
        raise


def _answering(
    docker: DockerClient, container: Container, spec: ContainerSpec, on_progress: OnProgress
) -> Served:
    """The container's server once it has answered a token."""
    on_progress(f"starting {spec.image}", 0, 0)
    if spec.recipe.model_flag is None:
        ensure_model(Starting(container, spec), on_progress)
    on_progress(f"waiting for the first token of {spec.model}", 0, 0)
    starting = Starting(container, spec)
    wait_for_token(starting)
    image = docker.images.get(container.attrs["Image"])
    return Served(str(container.id), starting.url, shown(image, spec.image))
