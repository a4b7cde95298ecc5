"""The work of ``llmengine engines``: the list of engines, the check for one token, and warming up.

A warm-up starts the engine's container, or wakes a server that sleeps.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmengine import SamplingParams
from llmengine.config.backends import backends, load_backend
from llmengine.engine.files import load_engines
from llmengine.types.errors import LLMEngineError
from pytest_llmengine.containers.docker import ContainerError
from pytest_llmengine.containers.lifecycle import containers, keep, kept_at
from pytest_llmengine.containers.spec import STARTUP_TIMEOUT, recipe_of
from pytest_llmengine.targets import Mode, Settings, TargetError, config_named
from pytest_llmengine.targets.plan import configured_url, located, make_plan, model_of
from pytest_llmengine.targets.session import identify
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import Engine
    from llmengine.engine.engine import EngineConfig
    from pytest_llmengine.containers.docker import OnProgress
    from pytest_llmengine.containers.lifecycle import Listed


HEADS = ("name", "backend", "address", "said by", "model", "container")
_NONE = "-"


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
    """The address of an engine and where it was configured, or the reason why there is none."""
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


ONE_TOKEN = SamplingParams(temperature=0, max_tokens=1)
# No retries, because the question is whether the engine answers now.
_AT_ONCE = {"max_retries": 0, "cold_start": None}


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether an engine answered: who and where (``who``) and in how many seconds, or an error."""

    name: str
    who: str = ""
    seconds: float = 0.0
    trouble: str | None = None

    def describe(self) -> str:
        """The result in one line."""
        if self.trouble is not None:
            return f"no: {' '.join(self.trouble.split())}"
        return f"yes, in {1000 * self.seconds:.0f} ms: {self.who}"


def checked(name: str, file: Path | None) -> Checked:
    """Ask the engine for one token, at its address or in the container that is kept warm for it."""
    try:
        plan = make_plan(name, _settings(name, file))
        config = plan.config.model_copy(update=_AT_ONCE)
        who = f"{config.model} in this process"
        if not plan.in_process:
            with config.engine as engine:
                known = identify(engine)
                who = f"{known.who()} at {engine.base_url}"
            config = config.model_copy(update={"model": known.model})
        with config.engine as engine:
            return Checked(name, who, _seconds_for_a_token(engine))
    except LLMEngineError as error:
        return Checked(name, trouble=str(error))


def _seconds_for_a_token(engine: Engine) -> float:
    engine.results(["Hi"], ONE_TOKEN)[0].unwrap()  # opens the connection, or loads the model
    started = time.perf_counter()
    engine.results(["Hi"], ONE_TOKEN)[0].unwrap()
    return time.perf_counter() - started


def _settings(name: str, file: Path | None) -> Settings:
    """Settings with the configured address, else the kept container's, else the default address."""
    settings = Settings(engines=(name,), config=file, mode=Mode.LIVE)
    config = config_named(name, file)
    if configured_url(config, load_backend(config.backend), settings) is None:
        container = _kept(config)
        if container is not None:
            return replace(settings, url=container.root_url, model=container.model)
    return settings


def _kept(config: EngineConfig) -> Listed | None:
    """The container that is kept warm for an engine; None if there is none, or no Docker."""
    with suppress(ContainerError):
        return kept_at(config.name) if recipe_of(config.backend) else None
    return None


def warm(name: str, settings: Settings, on_progress: OnProgress) -> str:
    """Start or wake the engine's server; returns its root URL once it has answered one token.

    Raises TargetError or ContainerError if that fails.
    """
    config = config_named(name, settings.config)
    if _is_contained(config, settings):
        plan = make_plan(name, replace(settings, mode=Mode.DOCKER))
        assert plan.container is not None
        return keep(plan.container, on_progress).root_url
    plan = make_plan(name, replace(settings, mode=Mode.LIVE))
    if plan.in_process or (facts(config.backend).own_server and plan.config.endpoint is None):
        raise TargetError(
            f"engine {config.name!r} starts anew in each process that uses it; there is nothing "
            "to keep warm"
        )
    bound = settings.startup_timeout or plan.config.cold_start or STARTUP_TIMEOUT
    on_progress(f"waiting for {plan.config.name} to answer", 0, 0)
    return _woken(plan.config.model_copy(update={"cold_start": bound}))


def _is_contained(config: EngineConfig, settings: Settings) -> bool:
    """Whether to use a container: an image or GPUs are given, or no address is configured."""
    if settings.image or settings.gpus:
        return True
    url = configured_url(config, load_backend(config.backend), settings)
    return url is None and recipe_of(config.backend) is not None


def _woken(config: EngineConfig) -> str:
    """The address of a server that may be asleep, once it has answered one token."""
    with config.engine as engine:
        known = identify(engine)
    with config.model_copy(update={"model": known.model}).engine as engine:
        engine.results(["Hi"], ONE_TOKEN)[0].unwrap()
        return engine.root_url
