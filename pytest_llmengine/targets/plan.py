"""Decides where the answers of an engine come from, before anything is started."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmengine.config.backends import load_backend
from llmengine.types.errors import ConfigError
from llmengine.types.file_names import path_below
from pytest_llmengine.contract.limits import Limits
from pytest_llmengine.contract.registry import catalogue
from pytest_llmengine.targets.addresses import answers_by_default, located
from pytest_llmengine.targets.backends import facts
from pytest_llmengine.targets.docker import container_for, in_container
from pytest_llmengine.targets.errors import NotInstalled, TargetError
from pytest_llmengine.targets.naming import can_start, config_named
from pytest_llmengine.targets.settings import Mode
from pytest_llmengine.targets.ways import (
    in_this_process,
    no_address,
    no_cassettes,
    no_model,
    no_source,
    not_installed,
)

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine.config.engine import EngineConfig
    from llmengine.engine.engine import Engine
    from pytest_llmengine.containers.spec import ContainerSpec
    from pytest_llmengine.targets.settings import Settings

OWN_KEY = "LLMENGINE_API_KEY"
_NO_KEY = {"api_key": None, "api_key_env": None}  # for servers that are our own


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be opened: a configuration, a mode, and the folder of the engine's cassettes.

    ``config.endpoint`` is the configured address, if any; a replay does not go there.
    ``config.model`` is empty where only the server, or the cassettes, can tell. ``container`` is
    what is to be started first, if anything. ``in_process`` says that there is no server.
    ``source`` is who says the address. ``limits`` bound the checks of the contract.
    """

    config: EngineConfig
    mode: Mode
    folder: Path
    rewrite: bool
    container: ContainerSpec | None = None
    in_process: bool = False
    source: str = ""
    limits: Limits = field(default_factory=Limits)


def make_plan(name: str, settings: Settings) -> Plan:
    """The plan for an engine by its name.

    The mode is the one that was asked for; else live where an address is configured or none is
    needed; else replay where there are cassettes; else live where a key is enough, or where a
    server answers at the backend's default address. Cassettes go before a key, for many shells
    hold one and a run must not cost money unasked. Raises TargetError that names the three ways if
    none of these holds, and NotInstalled where the engine's own server is not installed.
    """
    settings = settings.for_engine(name)
    config = config_named(name, settings.config)
    engine: type[Engine] = load_backend(config.backend)
    folder = _folder_of(config, settings)
    url, source = located(config, engine, settings) or (None, _default_of(engine))
    if engine.in_process:
        return _plan_here(config, url, settings, folder)
    mode = settings.mode or _mode(config, engine, url, folder)
    change: dict[str, Any] = {"endpoint": url, "model": model_of(config, settings)}
    if in_container(mode, url, settings):
        change |= _NO_KEY
        spec = container_for(config.model_copy(update=change), settings)
        change["model"] = spec.model
        return Plan(config.model_copy(update=change), mode, folder, settings.rewrite, spec)
    if mode is Mode.REPLAY:
        _need_cassettes(config, engine, folder)
        change |= _NO_KEY
    else:
        _need_address(config, engine, url)
        change |= _own_key(config, settings)
    return Plan(config.model_copy(update=change), mode, folder, settings.rewrite, source=source)


def _plan_here(config: EngineConfig, url: str | None, settings: Settings, folder: Path) -> Plan:
    """The plan for an engine without a server: it answers live, by a model that is named."""
    if settings.mode not in {None, Mode.LIVE}:
        raise TargetError(in_this_process(config.name, f"there is no mode {settings.mode}"))
    if url is not None:
        raise TargetError(in_this_process(config.name, f"it cannot be asked at {url}"))
    model = model_of(config, settings)
    if not model:
        raise TargetError(no_model(config.name, facts(config.backend).model_variable))
    config = config.model_copy(update={"model": model})
    return Plan(config, Mode.LIVE, folder, rewrite=False, in_process=True)


def _folder_of(config: EngineConfig, settings: Settings) -> Path:
    """Where the engine's cassettes are; TargetError for a name that is not one of a folder."""
    try:
        return path_below(settings.cassettes, config.name, "the name of an engine")
    except ConfigError as error:
        raise TargetError(str(error)) from None


def recorded(folder: Path) -> list[Path]:
    """The cassettes in a folder and those below it, sorted."""
    return sorted(folder.rglob("*.yaml"))


def with_contract(cassettes: Path) -> list[str]:
    """The engines that have a recording of any check, by name."""
    checks = catalogue()
    return sorted({p.parent.name for p in cassettes.glob("*/*.yaml") if p.stem in checks})


def _mode(config: EngineConfig, engine: type[Engine], url: str | None, folder: Path) -> Mode:
    backend = facts(config.backend)
    if url is not None or backend.instant:
        return Mode.LIVE
    if recorded(folder):
        return Mode.REPLAY
    if backend.own_server or (backend.one_address and _has_key(config, engine)):
        return Mode.LIVE
    if answers_by_default(engine):
        return Mode.LIVE
    raise TargetError(no_source(config.name, engine, folder))


def _default_of(engine: type[Engine]) -> str:
    return "" if engine.default_endpoint is None else "the default address"


def _has_key(config: EngineConfig, engine: type[Engine]) -> bool:
    return _names_a_key(config) or bool(engine.key_env and os.environ.get(engine.key_env))


def _names_a_key(config: EngineConfig) -> bool:
    return config.api_key is not None or config.api_key_env is not None


def _need_cassettes(config: EngineConfig, engine: type[Engine], folder: Path) -> None:
    if not recorded(folder):
        raise TargetError(no_cassettes(config.name, engine, folder))


def _need_address(config: EngineConfig, engine: type[Engine], url: str | None) -> None:
    if url is None and engine.default_endpoint is None and not facts(config.backend).own_server:
        raise TargetError(no_address(config.name, engine))
    if url is None and not can_start(config.backend):
        raise NotInstalled(not_installed(config.name, config.backend))


def _own_key(config: EngineConfig, settings: Settings) -> dict[str, Any]:
    """The run's own key goes to the run's own URL, and to no other host."""
    usable = settings.url and not _names_a_key(config) and os.environ.get(OWN_KEY)
    return {"api_key_env": OWN_KEY} if usable else {}


def model_of(config: EngineConfig, settings: Settings) -> str:
    """The model that an engine is to be asked for; empty where the server is to tell."""
    backend = facts(config.backend)
    from_variable = os.environ.get(backend.model_variable, "") if backend.model_variable else ""
    given = settings.model or config.model or from_variable or settings.fallback_model
    return given or backend.model
