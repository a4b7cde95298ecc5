"""What keeps a container from serving.

The connection to Docker, and its errors in words.

GPUs as ``docker run --gpus`` takes them, and whether Docker has any to give.

How far a start is, for whoever shows it.

Brings an image to this machine if it is not there.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmengine.types.errors import LLMEngineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.images import Image
    from docker.types import DeviceRequest


class ContainerError(LLMEngineError):
    """There is no container to talk to; the message says why and what to do.

    Where a container had started, the last lines that it wrote follow on lines of their own.
    """


# For one answer, and between two lines of a pull: a large layer is unpacked without a word.
_SECONDS = 300
_OF_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@contextmanager
def docker_engine() -> Iterator[DockerClient]:
    """Docker, for as long as the block lasts; what it refuses inside becomes a ContainerError.

    ``DOCKER_HOST`` says where it is, else the current context of the docker command. Raises
    ContainerError at once where none answers, or where it is on another machine.
    """
    if find_spec("docker") is None:
        raise ContainerError("containers need the extra: pip install 'pytest-llmengine[docker]'")
    from docker.errors import DockerException  # noqa: PLC0415 - an extra
    from requests import RequestException  # noqa: PLC0415 - comes with it

    where = _address()
    _check_local(where)
    try:
        _knock(where)
        connected = _connect()
    except (DockerException, OSError) as error:
        raise ContainerError(_no_answer(where, error)) from error
    with closing(connected) as docker:
        try:
            yield docker
        except (DockerException, RequestException) as error:
            raise ContainerError(f"Docker at {where}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Docker's own words about what it refused, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def _address() -> str:
    from docker import ContextAPI  # noqa: PLC0415 - an extra

    return os.environ.get("DOCKER_HOST") or str(ContextAPI.get_current_context().Host)


def _connect() -> DockerClient:
    import docker  # noqa: PLC0415 - an extra

    if os.environ.get("DOCKER_HOST"):
        return docker.from_env(timeout=_SECONDS)
    context = docker.ContextAPI.get_current_context()
    return docker.DockerClient(context.Host, tls=context.TLSConfig, timeout=_SECONDS)


def _check_local(where: str) -> None:
    """Ports are published on loopback, so that nobody else reaches the server: here, or nowhere."""
    host = urlsplit(where).hostname
    if host is not None and host not in _OF_THIS_MACHINE:
        raise ContainerError(
            f"Docker at {where} is on another machine, and a container's port would be open on "
            "that machine alone; start the server there and give --engine-url"
        )


def _knock(where: str) -> None:
    """Raise OSError if nothing listens at a Unix socket; the SDK would leave its own end open."""
    parts = urlsplit(where)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(parts.path)


def _no_answer(where: str, error: Exception) -> str:
    said = getattr(error, "strerror", None) or reason(error)
    advice = "start Docker, or set DOCKER_HOST to where it listens"
    if isinstance(error, PermissionError):
        advice = "this user may not use it: join the group docker, or run as root"
    return f"Docker does not answer at {where} ({said}); {advice}"


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


# What is being done, how much of it is done, and how much there is: bytes, or 0 where unknown.
OnProgress = Callable[[str, int, int], None]


class Layers:
    """Adds up the layers of a download, each of which reports for itself."""

    def __init__(self, what: str, on_progress: OnProgress) -> None:
        self._what = what
        self._on_progress = on_progress
        self._sizes: dict[str, tuple[int, int]] = {}
        on_progress(what, 0, 0)

    def report(self, layer: str, done: int, total: int) -> None:
        """Note the bytes of one layer and pass the sum on."""
        self._sizes[layer] = (done, total)
        sums = [sum(column) for column in zip(*self._sizes.values(), strict=True)]
        self._on_progress(self._what, *sums)


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""


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
