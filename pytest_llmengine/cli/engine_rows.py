"""The rows of ``llmengine engines list``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.config.backends import backends, load_backend
from llmengine.config.files import load_engines
from llmengine.types.errors import LLMEngineError
from pytest_llmengine.containers.docker import ContainerError
from pytest_llmengine.containers.lifecycle import containers
from pytest_llmengine.containers.spec import recipe_of
from pytest_llmengine.targets import Settings, config_named
from pytest_llmengine.targets.plan import located, model_of
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.config.engine import EngineConfig
    from pytest_llmengine.containers.lifecycle import Listed

HEADS = ("name", "backend", "address", "said by", "model", "container")
_NONE = "-"


def rows(file: Path | None) -> tuple[list[tuple[str, ...]], str]:
    """A row for each engine, and for each container of an engine that is not listed; and a note.

    A row is name, backend, address, who says so, model, and the state of the containers. The note
    says why containers cannot be listed, if they cannot.
    """
    try:
        running, note = containers(), ""
    except ContainerError as error:
        running, note = [], f"containers are not listed: {error}"
    configs = [config_named(name, file) for name in (load_engines(file) if file else backends())]
    found = [_row(config, file, running) for config in configs]
    names = {config.name for config in configs}
    found += [_of_container(one) for one in running if one.engine not in names]
    return found, note


def _row(config: EngineConfig, file: Path | None, running: list[Listed]) -> tuple[str, ...]:
    states = "; ".join(one.describe() for one in running if one.engine == config.name)
    container = states or ("none" if recipe_of(config.backend) else _NONE)
    settings = Settings(engines=(config.name,), config=file)
    address, who = _address(config, settings)
    model = model_of(config, settings) or _NONE
    return config.name, config.backend, address, who, model, container


def _of_container(one: Listed) -> tuple[str, ...]:
    return one.engine, _NONE, _NONE, _NONE, one.model or _NONE, one.describe()


def _address(config: EngineConfig, settings: Settings) -> tuple[str, str]:
    """The address of an engine and who says so, or words for why there is none."""
    if facts(config.backend).own_server and config.endpoint is None:
        return "its own server", _NONE
    try:
        engine = load_backend(config.backend)
        if engine.in_process:
            return "in this process", _NONE
        found = located(config, engine, settings)
    except (LLMEngineError, ImportError) as error:
        return str(error), _NONE
    if found is None and engine.default_endpoint is None:
        return "none", _NONE
    return found or (engine.default_endpoint, "default")
