"""Which engines a pipeline runs on, from its own list, a file, and a name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.config.files import load_engines
from llmengine.types.errors import ConfigError
from pytest_llmengine.cli.fetch import fetch_missing
from pytest_llmengine.targets import config_named
from pytest_llmengine.targets.settings import facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmengine.config.engine import EngineConfig
    from llmengine.pipeline import Pipeline


def aimed(pipeline: Pipeline, engine: str | None, file: Path | None) -> Pipeline:
    """The pipeline with the engines of the file over its own, all on `engine` if one is named."""
    if file is not None:
        pipeline = pipeline.with_engines(load_engines(file))
    return pipeline if engine is None else pipeline.on(engine_named(engine, pipeline.engines))


def fetch_models(pipeline: Pipeline) -> None:
    """Download with a bar what embedded engines would else download in silence."""
    for step in pipeline.chain.steps:
        config = pipeline.engines.get(step.engine)
        if config is not None:
            fetch_model(config)


def fetch_model(config: EngineConfig) -> None:
    """Download with a bar what the engine would else download in silence, if anything."""
    if config.backend == "embedded" and not config.endpoint:
        fetch_missing(config.model)


def close_engines(pipeline: Pipeline) -> None:
    """Stop what engines of the steps started."""
    for step in pipeline.chain.steps:
        pipeline.engines[step.engine].engine.close()


def engine_named(name: str, engines: Mapping[str, EngineConfig]) -> EngineConfig:
    """The engine of that name, else the backend with the model that it has anyway."""
    if name in engines:
        return engines[name]
    bare = config_named(name, None)
    model = facts(bare.backend).model
    if not model:
        msg = (
            f"engine {name!r} has no model: list it in the pipeline's engines, or in a file given "
            "by --config"
        )
        raise ConfigError(msg)
    return bare.model_copy(update={"model": model})
