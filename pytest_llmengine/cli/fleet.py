"""The engines of a command that takes several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.types.errors import ConfigError
from llmengine.types.secrets import as_shown
from pytest_llmengine.cli.fetch import fetch_missing
from pytest_llmengine.targets import Mode, Settings
from pytest_llmengine.targets.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmengine import Engine, EngineConfig


def fleet(
    names: Sequence[str],
    urls: Sequence[str],
    model: str | None,
    file: Path | None,
    concurrency: int | None,
) -> list[Engine]:
    """One engine a name; or, for several URLs, one engine a URL, all of the one name.

    Raises ConfigError or TargetError, in words for the user, for what cannot be.
    """
    if len(urls) > 1 and len(names) > 1:
        raise ConfigError("several --url and several --engine do not go together; give one of one")
    if len(urls) == 1 and len(names) > 1:
        raise ConfigError("one --url cannot be that of several --engine; leave it out")
    name = names[0] if names else ("openai_compatible" if urls else "embedded")
    if urls:
        configs = [_config(name, url, model, file) for url in urls]
    else:
        configs = [_config(n, None, model, file) for n in names or [name]]
    if len(urls) > 1:
        configs = [c.model_copy(update={"name": as_shown(c.endpoint)}) for c in configs]
    if concurrency is not None:
        configs = [c.model_copy(update={"max_concurrency": concurrency}) for c in configs]
    return [_ready(config) for config in configs]


def _config(name: str, url: str | None, model: str | None, file: Path | None) -> EngineConfig:
    settings = Settings(engines=(name,), url=url, model=model, config=file, mode=Mode.LIVE)
    return make_plan(name, settings).config


def _ready(config: EngineConfig) -> Engine:
    """The engine, its model downloaded with a bar where it would else come in silence."""
    if config.backend == "embedded" and config.endpoint is None:
        fetch_missing(config.model)
    return config.engine
