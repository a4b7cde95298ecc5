"""Creates a container and starts it on a free port of loopback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import reason
from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.gpus import devices
from pytest_llmengine.containers.recipes import MODELS
from pytest_llmengine.containers.removal import remove

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.spec import ContainerSpec

_LOOPBACK, _ANY_PORT = "127.0.0.1", 0
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
# vLLM's processes share tensors through it; Docker's 64 MB are too few. It is a limit, not a use.
_SHARED_MEMORY = "8g"


def launch(
    docker: DockerClient, spec: ContainerSpec, prefix: str, owner: Mapping[str, str]
) -> Container:
    """A started container that bears the labels of its owner; its server may not be up yet.

    Raises ContainerError where Docker does not start it, and leaves none behind then.
    """
    cache = docker.volumes.create(spec.recipe.volume, labels={labels.CACHE: labels.YES})
    container = docker.containers.create(
        spec.image,
        list(spec.command),
        name=f"{prefix}-{_UNSAFE.sub('-', spec.engine)}",
        labels={**_labels(spec), **owner},
        environment=dict(spec.env),
        ports={f"{spec.recipe.port}/tcp": (_LOOPBACK, _ANY_PORT)},
        volumes={cache.name: {"bind": MODELS, "mode": "rw"}},
        device_requests=devices(spec.gpus),
        shm_size=_SHARED_MEMORY,
    )
    try:
        _start(container, spec)
    except BaseException:
        remove(container)
        raise
    return container


def root_url(container: Container) -> str | None:
    """The address of the one port that is published; None for a container that does not run."""
    published = (p["HostPort"] for ports in container.ports.values() for p in ports or ())
    return next((f"http://{_LOOPBACK}:{port}" for port in published), None)


def _labels(spec: ContainerSpec) -> dict[str, str]:
    return {
        labels.ENGINE: spec.engine,
        labels.MODEL: spec.model,
        labels.FINGERPRINT: spec.fingerprint,
    }


def _start(container: Container, spec: ContainerSpec) -> None:
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    try:
        container.start()
    except APIError as error:
        raise ContainerError(
            f"engine {spec.engine!r}: the container of {spec.image} does not start "
            f"({reason(error)})"
        ) from error
