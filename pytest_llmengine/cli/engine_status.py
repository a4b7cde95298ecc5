"""The work of ``llmengine engines``: list engines, check for one token, and start servers."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmengine import FallbackConfig, SamplingParams
from llmengine.config.backends import backends, load_backend
from llmengine.engine.files import load_engines
from llmengine.types.errors import LLMEngineError
from pytest_llmengine.containers.docker import ContainerError
from pytest_llmengine.containers.lifecycle import containers, keep_warm, warm_container_of
from pytest_llmengine.containers.spec import STARTUP_TIMEOUT, recipe_of
from pytest_llmengine.reports.page import one_line
from pytest_llmengine.targets import Mode, Settings, TargetError, config_named
from pytest_llmengine.targets.advice import without_server
from pytest_llmengine.targets.plan import configured_url, located, make_plan, model_of
from pytest_llmengine.targets.recognition import identify
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import Engine
    from llmengine.engine.engine import EngineConfig
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.lifecycle import ListedContainer


HEADS = ("name", "backend", "address", "set by", "model", "docker")
_UNKNOWN = "-"


def rows(file: Path | None) -> tuple[list[tuple[str, ...]], str]:
    """One row per engine and per container of an engine that is not listed; and a note.

    The columns are name, backend, address, where the address was configured, model, and the state
    of the containers. The note says why containers cannot be listed; it is "" if they can.
    """
    try:
        running, note = containers(), ""
    except ContainerError as error:
        running, note = [], f"containers are not listed: {error}"
    configs = [config_named(name, file) for name in (load_engines(file) if file else backends())]
    found = [_row(config, file, running) for config in configs]
    names = {config.name for config in configs}
    found += [_container_row(one) for one in running if one.engine not in names]
    return found, note


def _row(
    config: EngineConfig, file: Path | None, running: list[ListedContainer]
) -> tuple[str, ...]:
    states = "; ".join(one.describe() for one in running if one.engine == config.name)
    container = states or ("none" if recipe_of(config.backend) else _UNKNOWN)
    settings = Settings(engines=(config.name,), config=file)
    address, set_by = _address(config, settings)
    model = model_of(config, settings) or _UNKNOWN
    return config.name, config.backend, address, set_by, model, container


def _container_row(one: ListedContainer) -> tuple[str, ...]:
    return one.engine, _UNKNOWN, _UNKNOWN, _UNKNOWN, one.model or _UNKNOWN, one.describe()


def _address(config: EngineConfig, settings: Settings) -> tuple[str, str]:
    """The address of an engine and where it was configured, or the reason why there is none."""
    if isinstance(config, FallbackConfig):
        return _names(config), _UNKNOWN
    if facts(config.backend).own_server and config.endpoint is None:
        return "its own server", _UNKNOWN
    try:
        engine = load_backend(config.backend)
        if engine.in_process:
            return "in this process", _UNKNOWN
        found = located(config, engine, settings)
    except (LLMEngineError, ImportError) as error:
        return str(error), _UNKNOWN
    if found is None and engine.default_endpoint is None:
        return "none", _UNKNOWN
    return found or (engine.default_endpoint, "default")


def _names(config: FallbackConfig) -> str:
    return ", ".join(engine.name for engine in config.engines)


ONE_TOKEN = SamplingParams(temperature=0, max_tokens=1)
# No retries, because the question is whether the engine answers now.
_NO_WAITING = {"max_retries": 0, "cold_start": None}


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """Whether an engine answered: its version and address (``who``) and the time, or an error."""

    name: str
    who: str = ""
    seconds: float = 0.0
    error: str | None = None

    def describe(self) -> str:
        """The result in one line."""
        if self.error is not None:
            return f"no: {one_line(self.error)}"
        return f"yes, in {1000 * self.seconds:.0f} ms: {self.who}"


def check_engine(name: str, file: Path | None) -> EngineCheck:
    """Request one token from the engine, at its address or from the container started for it."""
    try:
        plan = make_plan(name, _settings(name, file))
        config = _without_waiting(plan.config)
        who = f"{config.model} in this process"
        if isinstance(config, FallbackConfig):
            who = _names(config)
        if not plan.in_process:
            with config.engine as engine:
                known = identify(engine).provenance
                who = f"{known.who()} at {engine.base_url}"
            config = config.model_copy(update={"model": known.model})
        with config.engine as engine:
            return EngineCheck(name, who, _seconds_per_token(engine))
    except LLMEngineError as error:
        return EngineCheck(name, error=str(error))


def _without_waiting(config: EngineConfig) -> EngineConfig:
    if isinstance(config, FallbackConfig):
        return config.model_copy(update={"engines": [*map(_without_waiting, config.engines)]})
    return config.model_copy(update=_NO_WAITING)


def _seconds_per_token(engine: Engine) -> float:
    _generate_token(engine)  # opens the connection, or loads the model
    started = time.perf_counter()
    _generate_token(engine)
    return time.perf_counter() - started


def _generate_token(engine: Engine) -> None:
    engine.results(["Hi"], ONE_TOKEN)[0].unwrap()


def _settings(name: str, file: Path | None) -> Settings:
    """Settings with the configured address, else the container's, else the default address."""
    settings = Settings(engines=(name,), config=file, mode=Mode.LIVE)
    config = config_named(name, file)
    if configured_url(config, load_backend(config.backend), settings) is None:
        container = _container_of(config)
        if container is not None:
            return replace(settings, url=container.root_url, model=container.model)
    return settings


def _container_of(config: EngineConfig) -> ListedContainer | None:
    """The container that was started for an engine; None without a container or Docker."""
    with suppress(ContainerError):
        return warm_container_of(config.name) if recipe_of(config.backend) else None
    return None


def warm_up(name: str, settings: Settings, on_progress: OnProgress) -> str:
    """Start or wake up the engine's server; returns its root URL once it has answered one token.

    Raises TargetError or ContainerError if that fails.
    """
    config = config_named(name, settings.config)
    if isinstance(config, FallbackConfig):
        raise TargetError(without_server(config, f"warm up its engines: {_names(config)}"))
    if _needs_container(config, settings):
        plan = make_plan(name, replace(settings, mode=Mode.DOCKER))
        assert plan.container is not None
        return keep_warm(plan.container, on_progress).root_url
    plan = make_plan(name, replace(settings, mode=Mode.LIVE))
    if plan.in_process or (facts(config.backend).own_server and plan.config.endpoint is None):
        raise TargetError(
            f"engine {config.name!r} starts in each process that uses it, so it has no server "
            "to keep running"
        )
    bound = settings.startup_timeout or plan.config.cold_start or STARTUP_TIMEOUT
    on_progress(f"waiting for {plan.config.name} to answer", 0, 0)
    return _wait_for_token(plan.config.model_copy(update={"cold_start": bound}))


def _needs_container(config: EngineConfig, settings: Settings) -> bool:
    """Whether to use a container: an image or GPUs are given, or no address is configured."""
    if settings.image or settings.gpus:
        return True
    url = configured_url(config, load_backend(config.backend), settings)
    return url is None and recipe_of(config.backend) is not None


def _wait_for_token(config: EngineConfig) -> str:
    """The address of a server that may be asleep, once it has answered one token."""
    with config.engine as engine:
        known = identify(engine).provenance
    with config.model_copy(update={"model": known.model}).engine as engine:
        _generate_token(engine)
        return engine.root_url
