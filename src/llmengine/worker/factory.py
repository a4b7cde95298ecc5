"""The worker that the environment asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmengine.config.resolve import base_of, root_of
from llmengine.pool.named import named_engine
from llmengine.pool.variables import ENV_FILE, flag, read_variables
from llmengine.types.arguments import checked_call
from llmengine.types.errors import InvalidFieldError
from llmengine.worker.worker import EngineWorker, OpenAICompatibleWorker

if TYPE_CHECKING:
    from llmengine.config.engine import EngineConfig
    from llmengine.pool.variables import EnvFile


@checked_call("get_worker()", InvalidFieldError)
def get_worker(
    use_ollama: bool | None = None, use_openai_api: bool = True, *, env_file: EnvFile = ENV_FILE
) -> EngineWorker:
    """A worker over Ollama, or over Nemotron on vLLM, as variables or ``.env`` say.

    ``use_ollama`` left out is ``USE_OLLAMA``, and no if that is not set. Ollama is
    ``OLLAMA_MODEL`` at ``OLLAMA_API_URL``; Nemotron is ``NEMOTRON_MODEL`` at ``NEMOTRON_API_URL``
    with ``NEMOTRON_API_KEY`` if it wants one. Without ``use_openai_api`` Ollama is asked by its
    native route; vLLM has no other. Either way the engine is of the backend ``ollama_api`` or
    ``vllm_api``. Raises ConfigError that names the variable that is missing.
    """
    sources = read_variables(env_file)
    if use_ollama is None:
        use_ollama = flag(sources, "USE_OLLAMA")
    config = named_engine("ollama" if use_ollama else "nemotron", sources)
    return _native(config) if use_ollama and not use_openai_api else _openai(config)


def _native(config: EngineConfig) -> EngineWorker:
    engine = config.engine
    return EngineWorker(config.model_copy(update={"endpoint": root_of(engine.endpoint)}).engine)


def _openai(config: EngineConfig) -> OpenAICompatibleWorker:
    given = config.model_fields_set - {"endpoint", "model"}
    fields = {name: getattr(config, name) for name in given}
    return OpenAICompatibleWorker(base_of(config.engine.endpoint), config.model, **fields)
