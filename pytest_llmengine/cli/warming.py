"""Gets an engine's server ready to answer: its container started, or its sleeping server woken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmengine.config.backends import load_backend
from pytest_llmengine.cli.engine_check import ONE_TOKEN
from pytest_llmengine.containers.lifecycle import keep
from pytest_llmengine.containers.spec import STARTUP_TIMEOUT, recipe_of
from pytest_llmengine.targets import Mode, Settings, TargetError, config_named
from pytest_llmengine.targets.plan import configured_url, make_plan
from pytest_llmengine.targets.session import identify
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from llmengine.config.engine import EngineConfig
    from pytest_llmengine.containers.docker import OnProgress


def warm(name: str, settings: Settings, on_progress: OnProgress) -> str:
    """The root URL of the engine's server, once it has answered a token.

    Raises TargetError or ContainerError where it cannot be had.
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
    """Whether a container is meant: one is asked for, or there is no address to go to."""
    if settings.image or settings.gpus:
        return True
    url = configured_url(config, load_backend(config.backend), settings)
    return url is None and recipe_of(config.backend) is not None


def _woken(config: EngineConfig) -> str:
    """The address of a server that may be asleep, once it has answered a token."""
    with config.engine as engine:
        known = identify(engine)
    with config.model_copy(update={"model": known.model}).engine as engine:
        engine.results(["Hi"], ONE_TOKEN)[0].unwrap()
        return engine.root_url
