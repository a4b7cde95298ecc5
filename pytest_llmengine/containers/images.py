"""Brings an image to this machine if it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_llmengine.containers.daemon import reason
from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.progress import Layers

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

    from pytest_llmengine.containers.progress import OnProgress


def image_named(docker: DockerClient, name: str, on_progress: OnProgress) -> Image:
    """The image of that name, pulled if it is not here; raises ContainerError with the reason."""
    from docker.errors import ImageNotFound  # noqa: PLC0415 - an extra

    try:
        return docker.images.get(name)
    except ImageNotFound:
        _pull(docker, name, on_progress)
        return docker.images.get(name)


def shown(image: Image, name: str) -> str:
    """The image as provenance names it: what was asked for, and what that was."""
    return f"{name} ({image.short_id})"


def _pull(docker: DockerClient, name: str, on_progress: OnProgress) -> None:
    from docker.errors import APIError  # noqa: PLC0415 - an extra
    from docker.utils import parse_repository_tag  # noqa: PLC0415 - the same

    repository, tag = parse_repository_tag(name)
    layers = Layers(f"pulling image {name}", on_progress)
    try:
        for line in docker.api.pull(repository, tag or "latest", stream=True, decode=True):
            _report(line, name, layers)
    except APIError as error:
        raise _not_pulled(name, reason(error)) from error


def _report(line: dict[str, Any], name: str, layers: Layers) -> None:
    if "error" in line:
        raise _not_pulled(name, str(line["error"]))
    detail = line.get("progressDetail") or {}
    if line.get("status") == "Downloading" and "total" in detail:
        layers.report(str(line["id"]), detail.get("current", 0), detail["total"])


def _not_pulled(name: str, why: str) -> ContainerError:
    return ContainerError(
        f"the image {name} is not on this machine and cannot be pulled ({why}); check its name "
        "and the network, bring it by `docker load`, or give another by --engine-image"
    )
