"""Engines whose server is started in a container."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_llmengine.containers.lifecycle import serve
from pytest_llmengine.containers.ownership import Owner, end_run
from pytest_llmengine.containers.spec import spec_of
from pytest_llmengine.targets.errors import TargetError
from pytest_llmengine.targets.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmengine.config.engine import EngineConfig
    from pytest_llmengine.containers.container import Served
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.spec import ContainerSpec
    from pytest_llmengine.targets.settings import Settings


def in_container(mode: Mode, url: str | None, settings: Settings) -> bool:
    """Whether the server is to run in a container: in the mode docker, or to record an image."""
    if mode is Mode.DOCKER and settings.url is not None:
        raise TargetError(
            f"the mode docker starts a server of its own, and {settings.url} is given too; "
            "leave one of the two out"
        )
    return mode is Mode.DOCKER or (mode is Mode.RECORD and settings.image is not None and not url)


def container_for(config: EngineConfig, settings: Settings) -> ContainerSpec:
    """The container of an engine, as the run's settings want it."""
    return spec_of(
        config,
        image=settings.image,
        gpus=settings.gpus,
        startup_timeout=settings.startup_timeout,
    )


@contextmanager
def served(spec: ContainerSpec, owner: Owner | None, on_progress: OnProgress) -> Iterator[Served]:
    """A server in a container; one that has no owner ends with the block, else with its run."""
    if owner is not None:
        yield serve(spec, owner, on_progress)
        return
    alone = Owner.here()
    try:
        yield serve(spec, alone, on_progress)
    finally:
        end_run(alone)
