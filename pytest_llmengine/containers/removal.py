"""Takes containers away: those of a run at its end, and those that a dead run left behind."""

from __future__ import annotations

import shutil
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import docker_engine
from pytest_llmengine.containers.owner import Owner
from pytest_llmengine.containers.run_folder import folder_of, remove_left_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container

# Another process of ours removed it, or is removing it now.
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


def remove(container: Container) -> None:
    """Stop a container at once and delete it; one that is being deleted already is no error."""
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in _GONE:
            raise


def ours(docker: DockerClient, given: Mapping[str, str]) -> list[Container]:
    """Every container that bears these labels, stopped ones included."""
    wanted = [f"{name}={value}" if value else name for name, value in given.items()]
    return docker.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)


def end_run(owner: Owner) -> None:
    """Remove what a run has started; it costs nothing where the run started nothing."""
    folder = folder_of(owner)
    if not folder.exists():
        return
    with docker_engine() as docker:
        for container in ours(docker, {labels.RUN: owner.run}):
            remove(container)
    shutil.rmtree(folder)


def sweep(docker: DockerClient) -> None:
    """Remove what runs have left behind that were killed."""
    for container in ours(docker, {labels.RUN: ""}):
        owner = Owner.from_labels(container.labels)
        if owner is not None and _is_abandoned(container, owner):
            remove(container)
    remove_left_folders()


def _is_abandoned(container: Container, owner: Owner) -> bool:
    """Whether nobody can be using it any more; where that cannot be known it is left alone.

    After a restart of the machine its containers stand still. One of the same host name that runs
    though its owner was of another start is that of a machine, or of a container, with our name.
    """
    if owner.is_here:
        return not owner.is_alive
    return owner.has_our_name and container.status == "exited"
