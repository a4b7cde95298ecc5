"""The connection to Docker, and its errors in words."""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_llmengine.containers.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

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
