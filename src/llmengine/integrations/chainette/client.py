"""What Chainette's steps call: our engine under the interface of Chainette's own clients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from llmengine.integrations.chainette.skipped import note_failure
from llmengine.types.errors import (
    APIConnectionError,
    AuthenticationError,
    InvalidRequestError,
    LLMEngineError,
    NotFoundError,
    QuotaError,
    StructuredOutputError,
)
from llmengine.types.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmengine.engine.engine import Engine
    from llmengine.types.outputs import LLMOutput, Result

# No other item would fare better, so these end the chain, as they do in Chainette.
_ENDING = (
    APIConnectionError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    QuotaError,
)


class FailedOutput:
    """The answer to an item that has none: reading its text raises what Chainette skips on."""

    def __init__(self, error: LLMEngineError) -> None:
        self._error = error

    @property
    def text(self) -> str:
        """Nothing; raises ValueError, after which the step goes on with the next item."""
        raise ValueError(f"{type(self._error).__name__}: {self._error}") from self._error


class ChainetteClient:
    """An engine of ours as ``EngineConfig.engine`` of Chainette returns it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(
        self,
        prompts: Sequence[Any],
        *,
        output_model: type[BaseModel] | None = None,
        sampling_params: Any = None,
        step_id: str | None = None,
    ) -> list[SimpleNamespace]:
        """One output per prompt, in order, with ``outputs[0].text``.

        A prompt that failed has an output whose text raises ValueError. Raises the error itself if
        no other prompt could succeed either: the server is not there, refuses the key, or does not
        know the model.
        """
        results = self.engine.results(
            list(prompts), _non_default(sampling_params), output_model=output_model, step_id=step_id
        )
        for result in results:
            if isinstance(result.error, _ENDING):
                raise result.error
        return [
            SimpleNamespace(outputs=[self._answer(place, result, output_model)])
            for place, result in enumerate(results)
        ]

    def close(self) -> None:
        """Release what the engine holds."""
        self.engine.close()

    def _answer(self, place: int, result: Result, model: type[BaseModel] | None) -> Any:
        try:
            return _readable(result.unwrap(), model)
        except LLMEngineError as error:
            note_failure(place, self.engine.name, error)
            return FailedOutput(error)


def _readable(output: LLMOutput, model: type[BaseModel] | None) -> SimpleNamespace:
    """The answer as Chainette parses it; raises StructuredOutputError if it could not."""
    answer = output.outputs[0]
    readable = SimpleNamespace(text=answer.text if model is None else _json_text(output, model))
    if answer.reasoning:  # Chainette would keep an attribute that is None as the word "None"
        readable.reasoning = answer.reasoning
    return readable


def _json_text(output: LLMOutput, model: type[BaseModel]) -> str:
    """The text, or that of its parsed form: a server without schemas may add words around it."""
    answer = output.outputs[0]
    texts = [answer.text]
    if isinstance(answer.parsed, BaseModel):
        texts.append(answer.parsed.model_dump_json(by_alias=True))
    problem: ValueError | None = None
    for text in texts:
        try:
            model.model_validate(json.loads(text))
        except ValueError as error:
            problem = error
        else:
            return text
    raise StructuredOutputError(
        f"the answer fits {model.__name__} as JSON, but not as Chainette reads it: {problem}",
        partial=output,
    ) from problem


def _non_default(params: Any) -> Any:
    """What differs from the defaults of its class.

    ``vllm.SamplingParams`` has max_tokens=16 by itself, which Chainette sends to no server.
    """
    if params is None or isinstance(params, (SamplingParams, Mapping)):
        return params
    given, default = SamplingParams.of(params), SamplingParams.of(type(params)()).given()
    changed = {name: v for name, v in given.given().items() if v != default.get(name)}
    return SamplingParams(**changed, native=params)
