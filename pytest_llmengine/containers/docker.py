"""The connection to Docker: its errors, GPUs, and the download of images."""

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
    """A container cannot be used; the message says why and what to do.

    If the container was started, the last lines of its log follow, each on its own line.
    """


# Seconds for one answer, and between two lines of a pull. Docker writes nothing while it unpacks a
# large layer.
_TIMEOUT = 300
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@contextmanager
def docker_engine() -> Iterator[DockerClient]:
    """Connect to Docker for the block; errors of Docker inside the block become ContainerErrors.

    The address is that in ``DOCKER_HOST``, else that of the docker command's current context.
    Raises ContainerError at once if Docker does not answer or is on another machine.
    """
    if find_spec("docker") is None:
        raise ContainerError("containers need the extra: pip install 'pytest-llmengine[docker]'")
    from docker.errors import DockerException  # noqa: PLC0415 - an extra
    from requests import RequestException  # noqa: PLC0415 - installed with docker

    where = _address()
    _check_local(where)
    try:
        _check_socket(where)
        connected = _connect()
    except (DockerException, OSError) as error:
        raise ContainerError(_no_answer(where, error)) from error
    with closing(connected) as docker:
        try:
            yield docker
        except (DockerException, RequestException) as error:
            raise ContainerError(f"Docker at {where}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Docker's explanation of an error, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def _address() -> str:
    from docker import ContextAPI  # noqa: PLC0415 - an extra

    return os.environ.get("DOCKER_HOST") or str(ContextAPI.get_current_context().Host)


def _connect() -> DockerClient:
    import docker  # noqa: PLC0415 - an extra

    if os.environ.get("DOCKER_HOST"):
        return docker.from_env(timeout=_TIMEOUT)
    context = docker.ContextAPI.get_current_context()
    return docker.DockerClient(context.Host, tls=context.TLSConfig, timeout=_TIMEOUT)


def _check_local(where: str) -> None:
    """Raise ContainerError if Docker is on another machine; ports are published on loopback."""
    host = urlsplit(where).hostname
    if host is not None and host not in _LOCAL_HOSTS:
        raise ContainerError(
            f"Docker at {where} is on another machine, and a container's port would be open on "
            "that machine only; start the server there and give --engine-url"
        )


def _check_socket(where: str) -> None:
    """Raise OSError if nothing listens at a Unix socket; the SDK would then leave a socket open."""
    parts = urlsplit(where)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(parts.path)


def _no_answer(where: str, error: Exception) -> str:
    problem = getattr(error, "strerror", None) or reason(error)
    advice = "start Docker, or set DOCKER_HOST to where it listens"
    if isinstance(error, PermissionError):
        advice = "this user may not use it: add the user to the group docker, or run as root"
    return f"Docker does not answer at {where} ({problem}); {advice}"


_EMPTY_TAR = bytes(1024)
# Parts of the error messages of Docker and of NVIDIA's hook.
_NO_GPU_WORDS = ("device driver", "nvidia")


def device_request(gpus: str) -> dict[str, Any]:
    """Docker's device request for "all", a number, or "device=0,1", as for ``docker run --gpus``.

    Raises ContainerError for any other text.
    """
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
    """Raise ContainerError if Docker does not have these GPUs, before a large image is pulled.

    Docker reports missing GPUs only when it starts a container. So this tries to start a container
    of an empty image. That always fails; if the GPUs exist, it fails for another reason.
    """
    from docker.errors import APIError  # noqa: PLC0415 - an extra

    imported = docker.api.import_image_from_data(_EMPTY_TAR)
    image = json.loads(imported)["status"]
    container = docker.containers.create(image, ["/nothing"], device_requests=devices(gpus))
    try:
        container.start()
    except APIError as error:
        if any(word in reason(error) for word in _NO_GPU_WORDS):
            raise ContainerError(
                f"Docker has no GPU for {gpus!r} ({reason(error)}); install the NVIDIA "
                "driver and the NVIDIA Container Toolkit, or leave --engine-gpus out"
            ) from error
    finally:
        container.remove(force=True)
        docker.images.remove(image)


# Called with the name of the current task, the bytes that are done, and the total number of bytes.
# Both numbers are 0 if they are unknown.
OnProgress = Callable[[str, int, int], None]


class Layers:
    """The progress of a download: the sum over its layers, each of which reports its own."""

    def __init__(self, what: str, on_progress: OnProgress) -> None:
        self._what = what
        self._on_progress = on_progress
        self._sizes: dict[str, tuple[int, int]] = {}
        on_progress(what, 0, 0)

    def report(self, layer: str, done: int, total: int) -> None:
        """Record the bytes of one layer and report the sum of all layers."""
        self._sizes[layer] = (done, total)
        sums = [sum(column) for column in zip(*self._sizes.values(), strict=True)]
        self._on_progress(self._what, *sums)


def silent(what: str, done: int, total: int) -> None:
    """Ignore the progress."""


def image_named(docker: DockerClient, name: str, on_progress: OnProgress) -> Image:
    """The image of that name, pulled if it is missing; raises ContainerError if it cannot be."""
    from docker.errors import ImageNotFound  # noqa: PLC0415 - an extra

    try:
        return docker.images.get(name)
    except ImageNotFound:
        _pull(docker, name, on_progress)
        return docker.images.get(name)


def image_label(image: Image, name: str) -> str:
    """The image as a provenance names it: the given name and the image's short id."""
    return f"{name} ({image.short_id})"


def _pull(docker: DockerClient, name: str, on_progress: OnProgress) -> None:
    from docker.errors import APIError  # noqa: PLC0415 - an extra
    from docker.utils import parse_repository_tag  # noqa: PLC0415 - as above

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
        "and the network, load it by `docker load`, or give another by --engine-image"
    )
