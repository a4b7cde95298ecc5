"""One container as a value: what is to run in it, for which engine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from pytest_llmengine.containers.errors import ContainerError
from pytest_llmengine.containers.gpus import device_request
from pytest_llmengine.containers.options import ContainerOptions
from pytest_llmengine.containers.recipes import CONTAINED, recipe_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmengine.config.engine import EngineConfig
    from pytest_llmengine.containers.recipes import Recipe

_HASH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What a container of an engine is started with; ``env`` is complete, ``gpus`` as given."""

    engine: str
    recipe: Recipe
    image: str
    model: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    gpus: str | None
    startup_timeout: float

    @property
    def fingerprint(self) -> str:
        """The same for two containers that would answer alike, whichever engine asks."""
        parts = [self.image, self.model, self.command, sorted(self.env.items()), self.gpus]
        return sha256(json.dumps(parts).encode()).hexdigest()[:_HASH]


def spec_of(
    config: EngineConfig,
    *,
    image: str | None = None,
    gpus: str | None = None,
    startup_timeout: float | None = None,
) -> ContainerSpec:
    """The container for an engine; what is given here goes over the engine's own options.

    Raises ContainerError for a backend that has no container, for GPUs that cannot be, and for an
    image that would not start for want of one; ConfigError for wrong options.
    """
    recipe = recipe_of(config.backend)
    if recipe is None:
        raise ContainerError(
            f"engine {config.name!r}: backend {config.backend!r} is not run in a container; "
            f"{' and '.join(CONTAINED)} are"
        )
    options = ContainerOptions.of(config)
    model = config.model or recipe.model
    spec = ContainerSpec(
        engine=config.name,
        recipe=recipe,
        image=image or options.image or recipe.image,
        model=model,
        command=recipe.command_for(model, options.args),
        env={**recipe.environment, **_environment(options, config.name)},
        gpus=gpus or options.gpus,
        startup_timeout=startup_timeout or options.startup_timeout,
    )
    _check_gpus(spec)
    return spec


def _environment(options: ContainerOptions, engine: str) -> dict[str, str]:
    """The engine's variables, those without a value taken from this process."""
    taken = {name: os.environ.get(name) for name, value in options.env.items() if value is None}
    if missing := [name for name, value in taken.items() if value is None]:
        raise ContainerError(
            f"engine {engine!r}: options: docker: env: {missing[0]} is to be taken from the "
            f"environment and is not set; export {missing[0]}=... or give its value"
        )
    return {name: value for name, value in {**options.env, **taken}.items() if value is not None}


def _check_gpus(spec: ContainerSpec) -> None:
    if spec.gpus is not None:
        device_request(spec.gpus)
    if spec.recipe.needs_gpu and spec.gpus is None and spec.image == spec.recipe.image:
        raise ContainerError(
            f"engine {spec.engine!r}: the image {spec.image} needs a GPU: give --engine-gpus=all "
            "on a machine that has one, or the image of a CPU build by --engine-image"
        )
