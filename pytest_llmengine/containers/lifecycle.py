"""The life of containers: those of one run, those that are kept warm, and the list of both.

A container that is kept warm runs until it is stopped by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.container import (
    ContainerServer,
    ServerStart,
    root_url,
    start,
    start_once,
    wait_for_server,
)
from pytest_llmengine.containers.docker import ContainerError, docker_engine
from pytest_llmengine.containers.ownership import (
    containers_with,
    make_folder,
    remove,
    remove_abandoned,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.ownership import Owner
    from pytest_llmengine.containers.spec import ContainerSpec


@dataclass(frozen=True, slots=True)
class ListedContainer:
    """One container: its engine, its model, its state as Docker names it, and its address.

    ``owner`` is the process id of the run that it belongs to, None if it is kept warm.
    """

    engine: str
    model: str
    status: str
    root_url: str | None
    owner: str | None

    def describe(self) -> str:
        """The state, the address and the owner in a few words."""
        whose = "kept warm" if self.owner is None else f"of the run of process {self.owner}"
        where = f" at {self.root_url}" if self.root_url else ""
        return f"{self.status}{where}, {whose}"


def containers() -> list[ListedContainer]:
    """The containers of engines, warm ones first.

    Raises ContainerError if Docker does not answer.
    """
    with docker_engine() as docker:
        found = [
            ListedContainer(
                container.labels[labels.ENGINE],
                container.labels.get(labels.MODEL, ""),
                container.status,
                root_url(container),
                container.labels.get(labels.PID),
            )
            for container in containers_with(docker, {labels.ENGINE: ""})
        ]
    return sorted(found, key=lambda c: (c.owner is not None, c.engine))


def warm_container_of(engine: str) -> ListedContainer | None:
    """The running container that is kept warm for an engine, if there is one."""
    mine = (c for c in containers() if c.engine == engine and c.owner is None and c.root_url)
    return next(mine, None)


def keep_warm(spec: ContainerSpec, on_progress: OnProgress) -> ContainerServer:
    """Start a server that runs until `stop`, or wait for a token of the one that runs already.

    Raises ContainerError, also if the engine's warm container has another image, model or options.
    """
    with docker_engine() as docker:
        remove_abandoned(docker)
        for container in warm_containers(docker, spec.engine):
            if container.status == "exited":
                remove(container)
            elif is_same(container, spec):
                return wait_for_server(docker, container, spec, on_progress)
            else:
                raise ContainerError(
                    f"engine {spec.engine!r} is kept warm with another image, model or options; "
                    f"run `llmengine engines stop {spec.engine}` first"
                )
        return start(docker, spec, "llmengine", {labels.KEPT: labels.YES}, on_progress)


def stop(engine: str) -> int:
    """Remove the warm containers of an engine and return how many there were."""
    with docker_engine() as docker:
        containers = warm_containers(docker, engine)
        for container in containers:
            remove(container)
        return len(containers)


def warm_containers(docker: DockerClient, engine: str) -> list[Container]:
    """The containers of an engine that are kept warm, at most one."""
    return containers_with(docker, {labels.KEPT: labels.YES, labels.ENGINE: engine})


def is_same(container: Container, spec: ContainerSpec) -> bool:
    """Whether a container was started with the same image, model and options."""
    return container.labels.get(labels.FINGERPRINT) == spec.fingerprint


def serve(spec: ContainerSpec, owner: Owner, on_progress: OnProgress) -> ContainerServer:
    """A server for this run: the warm one if it was started with the same spec, else the run's own.

    All processes of a run share one container. Containers of runs that were killed are removed
    first. `end_run` removes the run's own container. Raises ContainerError.
    """
    with docker_engine() as docker:
        remove_abandoned(docker)
        for container in warm_containers(docker, spec.engine):
            if container.status == "running" and is_same(container, spec):
                return wait_for_server(docker, container, spec, on_progress)
        first = partial(_start_for_run, docker, spec, owner, on_progress)
        served = start_once(make_folder(owner), spec.fingerprint, first)
        ServerStart(docker.containers.get(served.container), spec).check_alive()
        return served


def _start_for_run(
    docker: DockerClient, spec: ContainerSpec, owner: Owner, on_progress: OnProgress
) -> ContainerServer:
    # A worker that was killed during a start has left its container, although the run is alive.
    mine = {labels.RUN: owner.run, labels.FINGERPRINT: spec.fingerprint}
    for container in containers_with(docker, mine):
        remove(container)
    return start(docker, spec, f"llmengine-{owner.run[:8]}", owner.to_labels(), on_progress)
