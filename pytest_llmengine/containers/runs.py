"""The container of a run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import docker_engine
from pytest_llmengine.containers.kept import is_same, kept
from pytest_llmengine.containers.removal import ours, remove, sweep
from pytest_llmengine.containers.run_folder import made_folder
from pytest_llmengine.containers.running import answering, start
from pytest_llmengine.containers.shared import Served, once
from pytest_llmengine.containers.starting import Starting

if TYPE_CHECKING:
    from docker import DockerClient

    from pytest_llmengine.containers.owner import Owner
    from pytest_llmengine.containers.progress import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec


def serve(spec: ContainerSpec, owner: Owner, on_progress: OnProgress) -> Served:
    """A server for this run: the one that is kept warm, if it is the same, else the run's own.

    The processes of a run share one. What killed runs left behind is removed first. Raises
    ContainerError. `end_run` takes the run's own container away.
    """
    with docker_engine() as docker:
        sweep(docker)
        for container in kept(docker, spec.engine):
            if container.status == "running" and is_same(container, spec):
                return answering(docker, container, spec, on_progress)
        first = partial(_start_for_run, docker, spec, owner, on_progress)
        served = once(made_folder(owner), spec.fingerprint, first)
        Starting(docker.containers.get(served.container), spec).check_alive()
        return served


def _start_for_run(
    docker: DockerClient, spec: ContainerSpec, owner: Owner, on_progress: OnProgress
) -> Served:
    # A worker that was killed while it started one has left it, and the run is still alive.
    mine = {labels.RUN: owner.run, labels.FINGERPRINT: spec.fingerprint}
    for container in ours(docker, mine):
        remove(container)
    return start(docker, spec, f"llmengine-{owner.run[:8]}", owner.to_labels(), on_progress)
