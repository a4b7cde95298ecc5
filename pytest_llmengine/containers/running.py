"""Starts a container and waits until its server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_llmengine.containers.first_token import wait_for_token
from pytest_llmengine.containers.gpus import check_gpus
from pytest_llmengine.containers.images import image_named, shown
from pytest_llmengine.containers.launch import launch
from pytest_llmengine.containers.ollama import ensure_model
from pytest_llmengine.containers.removal import remove
from pytest_llmengine.containers.shared import Served
from pytest_llmengine.containers.starting import Starting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.progress import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec


def start(
    docker: DockerClient,
    spec: ContainerSpec,
    prefix: str,
    owner: Mapping[str, str],
    on_progress: OnProgress,
) -> Served:
    """A new container under these labels whose server has answered; none is left if it fails."""
    if spec.gpus is not None:
        check_gpus(docker, spec.gpus)
    image_named(docker, spec.image, on_progress)
    on_progress(f"starting {spec.image}", 0, 0)
    container = launch(docker, spec, prefix, owner)
    try:
        return answering(docker, container, spec, on_progress)
    except BaseException:
        remove(container)
        raise


def answering(
    docker: DockerClient, container: Container, spec: ContainerSpec, on_progress: OnProgress
) -> Served:
    """The container's server once it has answered a token; it has its model by then."""
    if spec.recipe.model_flag is None:
        ensure_model(Starting(container, spec), on_progress)
    on_progress(f"waiting for the first token of {spec.model}", 0, 0)
    starting = Starting(container, spec)
    wait_for_token(starting)
    image = docker.images.get(container.attrs["Image"])
    return Served(str(container.id), starting.url, shown(image, spec.image))
