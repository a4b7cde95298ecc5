"""The client that Chainette's steps call: our engine, with the interface of Chainette's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING

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
    from llmengine.types.outputs import LLMOutput
    from llmengine.types.request import Prompt
    from llmengine.types.results import Result

# These errors would occur for every other item too, so they end the chain, as in Chainette.
_FATAL = (
    APIConnectionError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    QuotaError,
)


class FailedOutput:
    """A missing answer: reading its text raises an error, upon which Chainette skips the item."""

    def __init__(self, error: LLMEngineError) -> None:
        self._error = error

    @property
    def text(self) -> str:
        """Always raise ValueError; the step then continues with the next item."""
        raise ValueError(f"{type(self._error).__name__}: {self._error}") from self._error


class ChainetteClient:
    """One of our engines in the form that Chainette's ``EngineConfig.engine`` returns."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        output_model: type[BaseModel] | None = None,
        sampling_params: object = None,
        step_id: str | None = None,
    ) -> list[SimpleNamespace]:
        """Return one output per prompt, in order, with the text in ``outputs[0].text``.

        A prompt that failed has an output whose text raises ValueError. Raises the error itself if
        no other prompt could succeed either: the server cannot be reached, it refuses the key, or
        it does not know the model.
        """
        results = self.engine.results(
            list(prompts), _non_default(sampling_params), output_model=output_model, step_id=step_id
        )
        for result in results:
            if isinstance(result.error, _FATAL):
                raise result.error
        return [
            SimpleNamespace(outputs=[self._output(index, result, output_model)])
            for index, result in enumerate(results)
        ]

    def close(self) -> None:
        """Release the engine's resources."""
        self.engine.close()

    def _output(
        self, index: int, result: Result, model: type[BaseModel] | None
    ) -> SimpleNamespace | FailedOutput:
        try:
            return _readable(result.unwrap(), model)
        except LLMEngineError as error:
            note_failure(index, self.engine.name, error)
            return FailedOutput(error)


def _readable(output: LLMOutput, model: type[BaseModel] | None) -> SimpleNamespace:
    """The answer for Chainette; raises StructuredOutputError if Chainette could not parse it."""
    answer = output.outputs[0]
    readable = SimpleNamespace(text=answer.text if model is None else _json_text(output, model))
    if answer.reasoning:  # Chainette would store an attribute that is None as the text "None"
        readable.reasoning = answer.reasoning
    return readable


def _json_text(output: LLMOutput, model: type[BaseModel]) -> str:
    """The answer's JSON; it is made of the parsed answer if the text has other words around it."""
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


def _non_default(params: object) -> object:
    """The parameters that differ from the defaults of their class.

    ``vllm.SamplingParams`` has max_tokens=16 by default, which Chainette never sends to a server.
    """
    if params is None or isinstance(params, (SamplingParams, Mapping)):
        return params
    given, default = SamplingParams.of(params), SamplingParams.of(type(params)()).given()
    changed = {name: v for name, v in given.given().items() if v != default.get(name)}
    return SamplingParams(**changed, native=params)
