"""Workers: a prompt in, a text out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from pydantic_core import from_json

from llmengine.config.engine import EngineConfig
from llmengine.types.errors import StructuredOutputError, TruncatedError
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import LLMOutput

log = logging.getLogger("llmengine")

_SHOWN = 200


class LLMWorker(Protocol):
    """Whatever turns a prompt into a text."""

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
    """A worker over any engine; ``engine`` is there for all that a text cannot say."""

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

        With ``json_mode`` the server is asked for a JSON object, and the answer is one. A plain
        answer that ``max_tokens`` cut is returned, with a warning in the log. Raises the CallError
        of a call that failed, and StructuredOutputError (TruncatedError if it was cut) for an
        answer that is no JSON object.
        """
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        messages = [*system, {"role": "user", "content": prompt}]
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
    """A worker over any server with ``/v1/chat/completions``: Ollama, vLLM, a gateway.

    ``api_url`` may lack ``/v1``, ``timeout`` is the total of a call in seconds. ``fields`` are
    further fields of EngineConfig, such as ``api_key`` or ``cold_start``.
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
        f"the answer is no JSON object; it reads {answer.text[:_SHOWN]!r}", partial=output
    )
