"""Asks one engine for one token."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmengine import SamplingParams
from llmengine.config.backends import load_backend
from llmengine.types.errors import LLMEngineError
from pytest_llmengine.containers.docker import ContainerError
from pytest_llmengine.containers.lifecycle import kept_at
from pytest_llmengine.containers.spec import recipe_of
from pytest_llmengine.targets import Mode, Settings, config_named
from pytest_llmengine.targets.plan import configured_url, make_plan
from pytest_llmengine.targets.session import identify

if TYPE_CHECKING:
    from pathlib import Path

    from llmengine import Engine, EngineConfig
    from pytest_llmengine.containers.lifecycle import Listed

ONE_TOKEN = SamplingParams(temperature=0, max_tokens=1)
# What is asked is whether it answers now.
_AT_ONCE = {"max_retries": 0, "cold_start": None}


@dataclass(frozen=True, slots=True)
class Checked:
    """What an engine answered: ``who`` and where, in ``seconds``; or the ``trouble`` it had."""

    name: str
    who: str = ""
    seconds: float = 0.0
    trouble: str | None = None

    def describe(self) -> str:
        """One line."""
        if self.trouble is not None:
            return f"no: {' '.join(self.trouble.split())}"
        return f"yes, in {1000 * self.seconds:.0f} ms: {self.who}"


def checked(name: str, file: Path | None) -> Checked:
    """Whether the engine answers a token at its address, or in the container kept for it."""
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
    """The engine where it is configured to be, else in its kept container, else at its default."""
    settings = Settings(engines=(name,), config=file, mode=Mode.LIVE)
    config = config_named(name, file)
    if configured_url(config, load_backend(config.backend), settings) is None:
        container = _kept(config)
        if container is not None:
            return replace(settings, url=container.root_url, model=container.model)
    return settings


def _kept(config: EngineConfig) -> Listed | None:
    """The container that is kept for an engine; where Docker is not, there is none."""
    with suppress(ContainerError):
        return kept_at(config.name) if recipe_of(config.backend) else None
    return None
