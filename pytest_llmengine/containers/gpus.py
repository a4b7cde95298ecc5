"""GPUs as ``docker run --gpus`` takes them, and whether Docker has any to give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_llmengine.containers.daemon import reason
from pytest_llmengine.containers.errors import ContainerError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.types import DeviceRequest

_EMPTY_TAR = bytes(1024)
_NO_GPU = ("device driver", "nvidia")  # in what Docker, or NVIDIA's hook, then says


def device_request(gpus: str) -> dict[str, Any]:
    """What Docker is asked for by "all", a number, or "device=0,1"; ContainerError for others."""
    if gpus == "all":
        chosen: dict[str, Any] = {"count": -1}
    elif gpus.isdecimal() and int(gpus):
        chosen = {"count": int(gpus)}
    elif gpus.startswith("device="):
        chosen = {"device_ids": gpus.removeprefix("device=").split(",")}
    else:
        raise ContainerError(f"gpus is {gpus!r}; write all, a number, or device=0,1")
    return {"capabilities": [["gpu"]], **chosen}


def devices(gpus: str | None) -> list[DeviceRequest]:
    """The devices to create a container with."""
    from docker.types import DeviceRequest  # noqa: PLC0415 - an extra

    return [] if gpus is None else [DeviceRequest(**device_request(gpus))]


def check_gpus(docker: DockerClient, gpus: str) -> None:
    """Raise ContainerError if Docker has no such GPUs, before gigabytes of an image are pulled.

    Docker says so only when it starts a container: here one of an empty image, which cannot start
    in any case, for another reason where the GPUs are there.
    """
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    imported = docker.api.import_image_from_data(_EMPTY_TAR)
    image = json.loads(imported)["status"]
    container = docker.containers.create(image, ["/nothing"], device_requests=devices(gpus))
    try:
        container.start()
    except APIError as error:
        if any(word in reason(error) for word in _NO_GPU):
            raise ContainerError(
                f"Docker has no GPU to give for {gpus!r} ({reason(error)}); install the NVIDIA "
                "driver and the NVIDIA Container Toolkit, or leave --engine-gpus out"
            ) from error
    finally:
        container.remove(force=True)
        docker.images.remove(image)
