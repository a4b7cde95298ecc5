"""A container between its start and its first token."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import httpx

from llmengine.types.secrets import scrub
from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.launch import root_url

if TYPE_CHECKING:
    from docker.models.containers import Container

    from pytest_llmengine.containers.spec import ContainerSpec

_LINES = 15
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds


class Starting:
    """Asks the server of a started container until it does what is wanted, dies, or is too slow.

    One of these is one wait, of ``startup_timeout`` seconds from now.
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
        """The server's root; raises ContainerError if the container has ended already."""
        if self._url is None:
            raise self._died()
        return self._url

    @property
    def left(self) -> float:
        """The seconds that are left, never quite none, as an HTTP client wants some."""
        return max(self._deadline - time.monotonic(), 0.001)

    def client(self) -> httpx.Client:
        """A client of the server; plain HTTP needs no certificates, which are slow to load."""
        trusts_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.Client(base_url=self.url, trust_env=False, verify=trusts_nobody)

    def not_yet(self, trouble: str, wanted: str) -> None:
        """Wait a little after a fruitless attempt; raises ContainerError when there is no point."""
        self.check_alive()
        if time.monotonic() >= self._deadline:
            seconds = self.spec.startup_timeout
            raise self.failed(
                f"did not {wanted} within {seconds:g} s ({trouble}); "
                "if it only needs longer, raise --engine-startup-timeout"
            )
        time.sleep(min(self._pause, self.left))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def check_alive(self) -> None:
        """Raise ContainerError with its last words if the container has ended."""
        self.container.reload()
        if self.container.status != "running":
            raise self._died()

    def failed(self, what: str) -> ContainerError:
        """An error about this container, with the last lines that it wrote."""
        text = self.container.logs(tail=_LINES).decode(errors="replace")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        said = "its last lines:" if lines else "it has written nothing"
        whole = [f"engine {self.spec.engine!r}: the container of {self.spec.image} {what}; {said}"]
        return ContainerError(scrub("\n  ".join(whole + lines)))

    def _died(self) -> ContainerError:
        state = self.container.attrs["State"]
        killed = ", out of memory" if state.get("OOMKilled") else ""
        return self.failed(f"ended with status {state['ExitCode']}{killed}")
