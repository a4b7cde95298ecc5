"""The start of one container, up to the first token that its server answers.

A server counts as started when it has answered one token. A log line or an open port does not
prove that a model is loaded.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx
from filelock import FileLock

from llmengine.types.request import one_token_chat
from llmengine.types.secrets import scrub
from pytest_llmengine.containers import labels
from pytest_llmengine.containers.docker import (
    ContainerError,
    Layers,
    check_gpus,
    devices,
    image_label,
    image_named,
    reason,
)
from pytest_llmengine.containers.ownership import remove
from pytest_llmengine.containers.spec import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container

    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec


@dataclass(frozen=True, slots=True)
class ContainerServer:
    """A container whose server answers: its id, the server's root URL, and the image's name."""

    container: str
    root_url: str
    image: str


def start(
    docker: DockerClient,
    spec: ContainerSpec,
    prefix: str,
    owner: Mapping[str, str],
    on_progress: OnProgress,
) -> ContainerServer:
    """Start a container and wait until its server answers; if that fails, remove the container."""
    if spec.gpus is not None:
        check_gpus(docker, spec.gpus)
    image_named(docker, spec.image, on_progress)
    on_progress(f"starting {spec.image}", 0, 0)
    container = launch(docker, spec, prefix, owner)
    try:
        return wait_for_server(docker, container, spec, on_progress)
    except BaseException:
        remove(container)
        raise


def wait_for_server(
    docker: DockerClient, container: Container, spec: ContainerSpec, on_progress: OnProgress
) -> ContainerServer:
    """Wait until the container's server has its model and has answered one token."""
    if spec.recipe.model_flag is None:
        ensure_model(ServerStart(container, spec), on_progress)
    on_progress(f"waiting for the first token of {spec.model}", 0, 0)
    starting = ServerStart(container, spec)
    wait_for_token(starting)
    image = docker.images.get(container.attrs["Image"])
    return ContainerServer(str(container.id), starting.url, image_label(image, spec.image))


def start_once(folder: Path, name: str, start: Callable[[], ContainerServer]) -> ContainerServer:
    """Call `start` once per name for all processes of a run, which share its result.

    The first process calls `start`; the others get the same result or the same ContainerError. A
    process that is killed during the start leaves no result, so the next process calls `start`.
    """
    result = folder / f"{name}.json"
    with FileLock(folder / f"{name}.lock"):
        if not result.exists():
            result.write_text(json.dumps(_outcome(start)), "utf-8")
        known = json.loads(result.read_text("utf-8"))
    if "error" in known:
        raise ContainerError(known["error"])
    return ContainerServer(**known)


def _outcome(start: Callable[[], ContainerServer]) -> dict[str, str]:
    try:
        return asdict(start())
    except ContainerError as error:
        return {"error": str(error)}


_LOOPBACK, _ANY_PORT = "127.0.0.1", 0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
# vLLM's processes exchange tensors in shared memory, and Docker's default of 64 MB is too small.
# This is an upper limit; the memory is not reserved.
_SHARED_MEMORY = "8g"


def launch(
    docker: DockerClient, spec: ContainerSpec, prefix: str, owner: Mapping[str, str]
) -> Container:
    """Create a container with its owner's labels and start it on a free loopback port.

    The server in it may not answer yet. If Docker cannot start the container, it is removed and
    ContainerError is raised.
    """
    cache = docker.volumes.create(spec.recipe.volume, labels={labels.CACHE: labels.YES})
    container = docker.containers.create(
        spec.image,
        list(spec.command),
        name=f"{prefix}-{_NOT_IN_NAMES.sub('-', spec.engine)}",
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
    """The URL of the one published port; None if the container is not running."""
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


# Seconds between two lines. Ollama writes several lines per second during a download, but none
# while it checks the hash of the downloaded file.
_PULL_TIMEOUT = 300.0


def ensure_model(starting: ServerStart, on_progress: OnProgress) -> None:
    """Pull the container's model through Ollama's API if the server does not have it.

    A model may have hundreds of gigabytes, so the whole download has no time limit. Only the time
    between two lines of its progress is limited. Raises ContainerError, which says why it failed.
    """
    with starting.client() as client:
        if not _has_model(client, starting):
            _pull(client, starting, on_progress)


def _has_model(client: httpx.Client, starting: ServerStart) -> bool:
    while True:
        try:
            reply = client.post(
                "/api/show", json={"model": starting.spec.model}, timeout=starting.seconds_left
            )
        except httpx.TransportError as error:
            starting.wait_to_retry(str(error) or type(error).__name__, "answer")
            continue
        if not reply.is_server_error:
            return reply.is_success
        starting.wait_to_retry(f"HTTP {reply.status_code}", "answer")


def _pull(client: httpx.Client, starting: ServerStart, on_progress: OnProgress) -> None:
    model = starting.spec.model
    layers = Layers(f"pulling model {model}", on_progress)
    last: dict[str, Any] = {}
    try:
        with client.stream(
            "POST", "/api/pull", json={"model": model}, timeout=_PULL_TIMEOUT
        ) as reply:
            for line in reply.iter_lines():
                last = _read(line)
                if "error" in last:
                    break
                if "total" in last:
                    layers.report(last["digest"], last.get("completed", 0), last["total"])
    except httpx.TransportError as error:
        starting.check_alive()
        last = {"error": str(error) or type(error).__name__}
    if last.get("status") != "success":
        why = last.get("error") or f"the pull stopped after {last.get('status') or 'nothing'!r}"
        raise starting.error_about(f"cannot pull the model {model!r} ({why})")


def _read(line: str) -> dict[str, Any]:
    """One line of the answer; a line that is not a JSON object is returned as an error."""
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"error": line}


_WANTED = "answer a token"
# 4xx codes that ask the client to try again later.
_RETRY_STATUSES = frozenset(
    {
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_EARLY,
        httpx.codes.TOO_MANY_REQUESTS,
    }
)
_MAX_QUOTED = 300


def wait_for_token(starting: ServerStart) -> None:
    """Return when the server has answered a chat completion with a token.

    Raises ContainerError if the container ends, the time is over, or the server refuses.
    """
    with starting.client() as client:
        while (problem := _problem(client, starting)) is not None:
            starting.wait_to_retry(problem, _WANTED)


def _problem(client: httpx.Client, starting: ServerStart) -> str | None:
    """The reason why the server does not answer yet; None if it has answered."""
    body = one_token_chat(starting.spec.model)
    try:
        reply = client.post("/v1/chat/completions", json=body, timeout=starting.seconds_left)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    if _has_answered(reply):
        return None
    answer = f"HTTP {reply.status_code} {reply.text[:_MAX_QUOTED]}".strip()
    if reply.is_client_error and reply.status_code not in _RETRY_STATUSES:
        raise starting.error_about(f"refuses to {_WANTED} ({answer})")
    return answer


def _has_answered(reply: httpx.Response) -> bool:
    try:
        return reply.is_success and bool(reply.json()["choices"])
    except (ValueError, KeyError, TypeError):
        return False


_LOG_LINES = 15
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds


class ServerStart:
    """The wait for a container's server, which lasts at most ``startup_timeout`` seconds from now.

    The wait also ends if the container ends.
    """

    def __init__(self, container: Container, spec: ContainerSpec) -> None:
        self.container = container
        self.spec = spec
        self._deadline = time.monotonic() + spec.startup_timeout
        self._pause = _FIRST_PAUSE
        container.reload()
        self._url = root_url(container)

    @property
    def url(self) -> str:
        """The server's root URL; raises ContainerError if the container has already ended."""
        if self._url is None:
            raise self._ended()
        return self._url

    @property
    def seconds_left(self) -> float:
        """The seconds that are left, but not 0, because an HTTP client needs a positive timeout."""
        return max(self._deadline - time.monotonic(), 0.001)

    def client(self) -> httpx.Client:
        """A client of the server; it loads no CA certificates, which plain HTTP does not need."""
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.Client(base_url=self.url, trust_env=False, verify=no_certificates)

    def wait_to_retry(self, problem: str, wanted: str) -> None:
        """Wait a moment after a failed attempt.

        Raises ContainerError if the container has ended or the time is over.
        """
        self.check_alive()
        if time.monotonic() >= self._deadline:
            seconds = self.spec.startup_timeout
            raise self.error_about(
                f"did not {wanted} within {seconds:g} s ({problem}); "
                "if it only needs more time, raise --engine-startup-timeout"
            )
        time.sleep(min(self._pause, self.seconds_left))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def check_alive(self) -> None:
        """Raise ContainerError with the last lines of the container's log if it has ended."""
        self.container.reload()
        if self.container.status != "running":
            raise self._ended()

    def error_about(self, what: str) -> ContainerError:
        """An error about this container, with the last lines of its log."""
        text = self.container.logs(tail=_LOG_LINES).decode(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        heading = "its last lines:" if lines else "its log is empty"
        whole = [
            f"engine {self.spec.engine!r}: the container of {self.spec.image} {what}; {heading}"
        ]
        return ContainerError(scrub("\n  ".join(whole + lines)))

    def _ended(self) -> ContainerError:
        state = self.container.attrs["State"]
        killed = ", out of memory" if state.get("OOMKilled") else ""
        return self.error_about(f"ended with status {state['ExitCode']}{killed}")
