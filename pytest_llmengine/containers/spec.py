"""What runs in a container: the recipe of a backend, the options of an engine, and the whole spec.

The options come from the engine's entry in the engines file.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from llmengine.types.errors import ConfigError
from pytest_llmengine.containers.docker import ContainerError, device_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmengine.engine.engine import EngineConfig


MODELS = "/models"
"""The folder for models in every container; it works for images with any user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to run the server of a backend in a container.

    ``image`` is the default image, with a fixed version so that all runs test the same server. An
    image that replaces it must work with the same recipe. ``port`` is the port that the server
    listens on inside the container. ``volume`` is the Docker volume that is mounted at MODELS; a
    variable in ``environment`` makes the server keep its models there. ``model`` is the default
    model, which is small. ``command`` is passed to the image's entry point. ``model_flag`` is the
    server's option for its model; if it is None, the model is pulled through the server's API after
    the start. ``needs_gpu`` says that ``image`` does not start without a GPU.
    """

    image: str
    port: int
    volume: str
    environment: Mapping[str, str]
    model: str
    command: tuple[str, ...] = ()
    model_flag: str | None = None
    needs_gpu: bool = False

    def command_for(self, model: str, args: Sequence[str]) -> tuple[str, ...]:
        """The container's command for a model, with ``args`` as more arguments for the server."""
        of_model = () if self.model_flag is None else (self.model_flag, model)
        return (*self.command, *of_model, *args)


_RECIPES = {
    "ollama_api": Recipe(
        image="ollama/ollama:0.32.15",
        port=11434,
        volume="llmengine-ollama",
        # Otherwise a second server on the volume would delete the unfinished download of the first.
        environment={"OLLAMA_MODELS": MODELS, "OLLAMA_NOPRUNE": "1"},
        model="smollm2:135m",
        command=("serve",),
    ),
    "vllm_api": Recipe(
        image="vllm/vllm-openai:v0.32.0",
        port=8000,
        volume="llmengine-huggingface",
        environment={"HF_HOME": MODELS},
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        # Works with images that run `vllm serve` and with older images.
        model_flag="--model",
        needs_gpu=True,
    ),
}

CONTAINER_BACKENDS = tuple(_RECIPES)  # the backends that can be run in a container


def recipe_of(backend: str) -> Recipe | None:
    """The recipe of a backend; None if its server cannot be run in a container."""
    return _RECIPES.get(backend)


STARTUP_TIMEOUT = 600.0  # seconds; enough to load a large model from a disk that is not cached


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """``options: {docker: {...}}`` of an engine; if a field is None, the backend's recipe decides.

    ``image`` replaces the pinned image. ``gpus`` is written as for ``docker run --gpus``: "all", a
    number, or "device=0,1"; without it the container sees no GPU. ``args`` are more arguments for
    the server and ``env`` more environment variables; a variable whose value is null is copied
    from this process. ``startup_timeout`` is in seconds. It limits the start of the server, and
    then again the wait for its first token once the server has its model.
    """

    image: str | None = None
    gpus: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    startup_timeout: float = STARTUP_TIMEOUT

    @classmethod
    def of(cls, config: EngineConfig) -> Self:
        """The options of an engine; raises ConfigError, which names the engine and the field."""
        given = config.options.get("docker", {})
        where = f"engine {config.name!r}: options: docker"
        if not isinstance(given, dict):
            raise ConfigError(f"{where} is {given!r}; write a mapping such as {{image: ...}}")
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            names = ", ".join(known)
            raise ConfigError(f"{where}: {unknown[0]!r} is unknown; known are {names}")
        return cls(**_checked(given, where))


def _checked(given: dict[str, Any], where: str) -> dict[str, Any]:
    checked = dict(given)
    for name in ("image", "gpus"):
        if name in given:
            checked[name] = str(given[name])
    if "args" in given:
        checked["args"] = tuple(map(str, _typed(given, "args", list, where)))
    if "env" in given:
        env = _typed(given, "env", dict, where)
        checked["env"] = {str(k): None if v is None else str(v) for k, v in env.items()}
    if "startup_timeout" in given:
        seconds = _typed(given, "startup_timeout", (int, float), where)
        if seconds <= 0:
            raise ConfigError(f"{where}: startup_timeout is {seconds}; give seconds above 0")
    return checked


def _typed(given: dict[str, Any], name: str, kind: Any, where: str) -> Any:
    words = {list: "a list", dict: "a mapping"}
    if not isinstance(given[name], kind):
        raise ConfigError(f"{where}: {name} is {given[name]!r}; give {words.get(kind, 'a number')}")
    return given[name]


_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """All settings of a container; ``env`` is complete, ``gpus`` is as in ContainerOptions."""

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
        """A hash of all that affects the answers; engines with the same hash share a container."""
        parts = [self.image, self.model, self.command, sorted(self.env.items()), self.gpus]
        return sha256(json.dumps(parts).encode()).hexdigest()[:_HASH_LENGTH]


def spec_of(
    config: EngineConfig,
    *,
    image: str | None = None,
    gpus: str | None = None,
    startup_timeout: float | None = None,
) -> ContainerSpec:
    """The container for an engine; arguments override the engine's own options.

    Raises ContainerError if the backend has no container, if ``gpus`` is not valid, or if the
    image needs a GPU and none is given. Raises ConfigError for wrong options.
    """
    recipe = recipe_of(config.backend)
    if recipe is None:
        raise ContainerError(
            f"engine {config.name!r}: backend {config.backend!r} is not run in a container; "
            f"{' and '.join(CONTAINER_BACKENDS)} are"
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
    """The engine's variables; those without a value are copied from this process."""
    copied = {name: os.environ.get(name) for name, value in options.env.items() if value is None}
    if missing := [name for name, value in copied.items() if value is None]:
        raise ContainerError(
            f"engine {engine!r}: options: docker: env: {missing[0]} is to be copied from the "
            f"environment, but it is not set there; export {missing[0]}=... or give its value"
        )
    return {name: value for name, value in {**options.env, **copied}.items() if value is not None}


def _check_gpus(spec: ContainerSpec) -> None:
    if spec.gpus is not None:
        device_request(spec.gpus)
    if spec.recipe.needs_gpu and spec.gpus is None and spec.image == spec.recipe.image:
        raise ContainerError(
            f"engine {spec.engine!r}: the image {spec.image} needs a GPU: give --engine-gpus=all "
            "on a machine that has one, or give the image of a CPU build by --engine-image"
        )
