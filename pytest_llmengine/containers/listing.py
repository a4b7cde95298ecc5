"""Which containers of ours there are."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmengine.containers import labels
from pytest_llmengine.containers.daemon import docker_engine
from pytest_llmengine.containers.launch import root_url
from pytest_llmengine.containers.removal import ours


@dataclass(frozen=True, slots=True)
class Listed:
    """One container: its engine, its model, Docker's word for its state, and its address.

    ``owner`` is the process id of the run that it belongs to, None for one that is kept.
    """

    engine: str
    model: str
    status: str
    root_url: str | None
    owner: str | None

    def describe(self) -> str:
        """The state in a few words."""
        whose = "kept warm" if self.owner is None else f"of the run of process {self.owner}"
        where = f" at {self.root_url}" if self.root_url else ""
        return f"{self.status}{where}, {whose}"


def containers() -> list[Listed]:
    """The containers of engines, kept ones first; raises ContainerError without Docker."""
    with docker_engine() as docker:
        found = [
            Listed(
                container.labels[labels.ENGINE],
                container.labels.get(labels.MODEL, ""),
                container.status,
                root_url(container),
                container.labels.get(labels.PID),
            )
            for container in ours(docker, {labels.ENGINE: ""})
        ]
    return sorted(found, key=lambda c: (c.owner is not None, c.engine))


def kept_at(engine: str) -> Listed | None:
    """The running container that is kept for an engine, if there is one."""
    mine = (c for c in containers() if c.engine == engine and c.owner is None and c.root_url)
    return next(mine, None)
