"""What a language model can be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from llmengine.config.engine import EngineConfig
from llmengine.engine.engine import Engine
from llmengine.types.errors import ConfigError
from llmengine.worker import EngineWorker

if TYPE_CHECKING:
    Source = Engine | EngineConfig | EngineWorker


def engine_of(source: Source, *, num_retries: int | None = None) -> Engine:
    """The engine behind an engine, a configuration or a worker.

    With ``num_retries`` it is another client of the same server, which retries that often.
    Raises ConfigError for anything else.
    """
    if isinstance(source, EngineWorker):
        source = source.engine
    engine = source.engine if isinstance(source, EngineConfig) else source
    if not isinstance(engine, Engine):
        raise ConfigError(
            f"a language model cannot be made of a {type(source).__name__}; give an engine, "
            "an EngineConfig, or a worker that get_worker() or OpenAICompatibleWorker() gives"
        )
    return engine if num_retries is None else _retrying(engine, num_retries)


def _retrying(engine: Engine, num_retries: int) -> Engine:
    change: dict[str, Any] = {"max_retries": num_retries}
    # The address and the key as they were found, so that the other finds the same server.
    if not engine.in_process:
        change["endpoint"] = engine.endpoint
    if engine.api_key:
        change["api_key"] = SecretStr(engine.api_key)
    return engine.config.model_copy(update=change).engine
