"""Workers, which turn a prompt into a text, and the worker that the environment configures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json

from llmengine.config.address import base_of, root_of
from llmengine.engine.engine import EngineConfig
from llmengine.pool.environment import ENV_FILE, flag, read_variables
from llmengine.pool.pool import named_engine
from llmengine.types.arguments import checked_call
from llmengine.types.errors import InvalidFieldError, StructuredOutputError, TruncatedError
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.pool.environment import EnvFile
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.wire import ChatMessage


log = logging.getLogger("llmengine")

_MAX_QUOTED = 200


class LLMWorker(Protocol):
    """The interface of a worker: it turns a prompt into a text."""

    def generate(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float = 0.1,
        max_tokens: int = 1000,
        json_mode: bool = False,
    ) -> str:
        """The answer to the prompt."""
        ...


class EngineWorker(LLMWorker):
    """A worker that uses an engine, which is its attribute ``engine``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(
        self,
        prompt: str,
        system_prompt: str | None = None,
        temperature: float = 0.1,
        max_tokens: int = 1000,
        json_mode: bool = False,
    ) -> str:
        """The answer to the prompt.

        With ``json_mode`` the server is asked for a JSON object, and the answer must be one.
        Without it, an answer that was cut by ``max_tokens`` is returned, with a warning in the log.
        Raises CallError if the call failed, and StructuredOutputError (TruncatedError if the answer
        was cut) for an answer that is not a JSON object.
        """
        messages: list[ChatMessage] = [{"role": "user", "content": prompt}]
        if system_prompt:
            messages.insert(0, {"role": "system", "content": system_prompt})
        sampling = SamplingParams(temperature=temperature, max_tokens=max_tokens)
        (result,) = self.engine.results([messages], sampling, json_mode=json_mode)
        output = result.unwrap()
        answer = output.outputs[0]
        if json_mode:
            _check_json(output)
        elif answer.finish_reason == "length":
            log.warning("%s: the answer was cut at %d tokens", self.engine.name, max_tokens)
        return answer.text

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.engine!r}>"


class OpenAICompatibleWorker(EngineWorker):
    """A worker that uses any server with ``/v1/chat/completions``: Ollama, vLLM or a gateway.

    ``api_url`` may omit ``/v1``. ``timeout`` is the total time limit of a call in seconds.
    ``fields`` are further fields of EngineConfig, such as ``api_key`` or ``cold_start``.
    """

    def __init__(self, api_url: str, model_name: str, timeout: float = 60, **fields: Any) -> None:
        given = {"endpoint": api_url, "model": model_name, "timeout": timeout}
        config = EngineConfig(**({"backend": "openai_compatible"} | fields | given))
        super().__init__(config.engine)
        self.api_url = api_url.rstrip("/")
        self.model_name = model_name


def _check_json(output: LLMOutput) -> None:
    answer = output.outputs[0]
    try:
        fits = isinstance(from_json(answer.text, allow_inf_nan=False), dict)
    except ValueError:
        fits = False
    if fits:
        return
    if answer.finish_reason == "length":
        raise TruncatedError(
            "the answer was cut by the token limit before it was a whole JSON object; "
            "raise max_tokens",
            partial=output,
        )
    raise StructuredOutputError(
        f"the answer is not a JSON object; it reads {answer.text[:_MAX_QUOTED]!r}", partial=output
    )


@checked_call("get_worker()", InvalidFieldError)
def get_worker(
    use_ollama: bool | None = None, use_openai_api: bool = True, *, env_file: EnvFile = ENV_FILE
) -> EngineWorker:
    """A worker that uses Ollama, or Nemotron on vLLM, as set by variables or ``.env``.

    The default of ``use_ollama`` is the variable ``USE_OLLAMA``, or false if that is not set. For
    Ollama, the model is ``OLLAMA_MODEL`` and the address ``OLLAMA_API_URL``. For Nemotron, they
    are ``NEMOTRON_MODEL`` and ``NEMOTRON_API_URL``, with ``NEMOTRON_API_KEY`` if the server wants
    a key. Without ``use_openai_api``, Ollama's native route is used; vLLM has only OpenAI's. With
    either route, the engine's backend is ``ollama_api`` or ``vllm_api``. Raises ConfigError, which
    names the missing variable.
    """
    sources = read_variables(env_file)
    if use_ollama is None:
        use_ollama = flag(sources, "USE_OLLAMA")
    config = named_engine("ollama" if use_ollama else "nemotron", sources)
    return _native(config) if use_ollama and not use_openai_api else _openai(config)


def _native(config: EngineConfig) -> EngineWorker:
    engine = config.engine
    return EngineWorker(
        config.model_copy(update={"endpoint": root_of(engine.backend.endpoint)}).engine
    )


def _openai(config: EngineConfig) -> OpenAICompatibleWorker:
    given = config.model_fields_set - {"endpoint", "model"}
    fields = {name: getattr(config, name) for name in given}
    return OpenAICompatibleWorker(base_of(config.engine.backend.endpoint), config.model, **fields)
